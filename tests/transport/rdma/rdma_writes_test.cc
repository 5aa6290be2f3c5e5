// The push that the source writes: a source, and a destination, that break its rules. Runs where
// rdma_contract_test does.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <string>

#include "contract/bulk_lane_fixture.h"
#include "transport/rdma/broken_channels.h"
#include "transport/rdma/raw_source.h"
#include "transport/rdma/rdma_limits.h"
#include "transport/rdma/rdma_push_lane.h"
#include "transport/rdma/readable_frame.h"

namespace faultline::contract {
namespace {

constexpr uint64_t kSlotBytes = 2 << 20;  // the test VM's largest page

std::vector<std::byte> GrantsWanted(uint64_t rail) {
  return BytesOf(PageFrame{PageFrameKind::kGrantsWanted, {0, rail, 0}});
}

std::vector<std::byte> Named(const PageRun& run, const WrittenSlot& at) {
  std::array<std::byte, kWrittenSlotBytes> where;
  EncodeWrittenSlot(at, where);
  return Join(BytesOf(PageFrame{PageFrameKind::kWritten, run}), where);
}

class RdmaWritesTest : public RawSourceTest, RdmaWorkQueue::Listener {
 protected:
  // The bulk lane's queue pair, with the memory registered and the lane begun.
  void Open(RdmaBulk bulk = RdmaBulk::kWrite) {
    OpenRawLanes();
    MakeEvents();
    world_->RunOn(Place::kBulk, [&] { receiver_->Start(&notes_); });
    welcome_bytes_ = raw_bulk_->Received().size();
    ASSERT_TRUE(Connect(ConnectionRole::kBulk, TokenOf(*raw_bulk_), RdmaTuning{.bulk = bulk}).ok());
    Register();
    registered_->Readable();
  }

  // All grants so far, once there are so many.
  std::vector<WriteGrant> Grants(size_t count) {
    const size_t bytes = welcome_bytes_ + count * kWriteGrantBytes;
    EXPECT_TRUE(world_->WaitUntil([&] { return raw_bulk_->Received().size() >= bytes; }));
    const std::vector<std::byte> received = raw_bulk_->Received();
    EXPECT_EQ(received.size(), bytes);
    std::vector<WriteGrant> grants;
    for (size_t at = welcome_bytes_; at + kWriteGrantBytes <= received.size();
         at += kWriteGrantBytes) {
      grants.push_back(DecodeWriteGrant(std::span(received).subspan(at).first<kWriteGrantBytes>()));
    }
    return grants;
  }

  void Write(const PageRun& run, const WriteGrant& grant) {
    const RemotePlace place = registered_->Readable().Find(run).value();
    const std::span<const std::byte> bytes = memory_.View(run);
    world_->RunOn(Place::kSourceBulk, [&] {
      if (!queue_.attached()) {
        RdmaConnection* const connection = connections_.front().get();
        queue_.Attach(connection, connection->writes_max());
      }
      EXPECT_TRUE(queue_.PostWrite(bytes, registered_->local_key(place.key), grant).ok());
      queue_.AwaitSoon();
    });
  }

  // The lane fails, and says so of this.
  void ExpectFailure(const std::string& text) {
    ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
    EXPECT_NE(MessageOf(*notes_.failure()).find(text), std::string::npos) << *notes_.failure();
    EXPECT_TRUE(absl::IsInvalidArgument(*notes_.failure())) << *notes_.failure();
  }

  void TearDown() override {
    world_->RunOn(Place::kSourceBulk, [&] { queue_.Detach(); });
    RawSourceTest::TearDown();
  }

  void OnWorkDone(uint32_t) override {}
  void OnWorkFailed(absl::Status status) override { writes_failure_.Note(std::move(status)); }

  RunNotes notes_{&memory_};
  FailureNotes writes_failure_;
  size_t welcome_bytes_ = 0;
  RdmaWorkQueue queue_{&world().loop(Place::kSourceBulk), "a WRITE", 0, this};
};

INSTANTIATE_TEST_SUITE_P(Rdma, RdmaWritesTest,
                         ::testing::Values([] { return std::make_unique<RdmaWorld>(); }));

TEST_P(RdmaWritesTest, ARunIsWholeOnceItIsWrittenAndNamedAndItsSlotIsGrantedAgain) {
  Open();
  raw_bulk_->Send(GrantsWanted(0));
  const std::vector<WriteGrant> grants = Grants(kRdmaSlotsGranted);
  for (uint16_t slot = 0; slot < kRdmaSlotsGranted; ++slot) {
    EXPECT_EQ(grants.at(slot).slot, slot);
    EXPECT_EQ(grants.at(slot).rail, 0u);
    EXPECT_EQ(grants.at(slot).bytes, kSlotBytes);
  }
  Write({0, 0, 64}, grants[5]);
  Write({1, 0, 1}, grants[2]);
  world_->Settle();
  EXPECT_TRUE(notes_.runs().empty());
  raw_bulk_->Send(Named({0, 0, 64}, {0, 5}));
  raw_bulk_->Send(Named({1, 0, 1}, {0, 2}));
  raw_bulk_->Send(Named({0, 64, 64}, {0, 0}));
  raw_bulk_->Send(BytesOf(PageFrame{PageFrameKind::kFinished, {}}));
  EXPECT_EQ(Grants(kRdmaSlotsGranted + 2).back().slot, 2u);
  world_->Settle();
  EXPECT_EQ(notes_.runs(), (std::vector<PageRun>{{0, 0, 64}, {1, 0, 1}}));
  EXPECT_FALSE(notes_.finished()) << "the third is not written yet";
  Write({0, 64, 64}, grants[0]);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  EXPECT_EQ(notes_.runs().size(), 3u);
  EXPECT_EQ(Grants(kRdmaSlotsGranted + 3).back(), grants[0]);
  EXPECT_FALSE(notes_.failure().has_value());
}

// It waits in its slot, which is granted to nobody meanwhile.
TEST_P(RdmaWritesTest, ASlotIsNotGrantedBeforeItsRunIsTaken) {
  Open();
  raw_bulk_->Send(GrantsWanted(0));
  const std::vector<WriteGrant> grants = Grants(kRdmaSlotsGranted);
  notes_.HoldFrom(0);
  Write({0, 0, 64}, grants[1]);
  raw_bulk_->Send(Named({0, 0, 64}, {0, 1}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() == 1; }));
  world_->Settle();
  Grants(kRdmaSlotsGranted);
  notes_.HoldFrom(std::nullopt);
  world_->RunOn(Place::kBulk, [&] { receiver_->Resume(); });
  EXPECT_EQ(Grants(kRdmaSlotsGranted + 1).back(), grants[1]);
  EXPECT_EQ(notes_.runs().size(), 1u);
}

TEST_P(RdmaWritesTest, ANameOfASlotThatWasNeverGrantedFailsTheLane) {
  Open();
  raw_bulk_->Send(Named({0, 0, 64}, {0, 0}));
  ExpectFailure("field 'slot' is 0 of rail 0, which is not granted");
  EXPECT_TRUE(notes_.runs().empty());
}

TEST_P(RdmaWritesTest, ASlotThatIsUsedTwiceFailsTheLane) {
  Open();
  raw_bulk_->Send(GrantsWanted(0));
  Grants(kRdmaSlotsGranted);
  raw_bulk_->Send(Named({0, 0, 64}, {0, 3}));
  raw_bulk_->Send(Named({0, 64, 64}, {0, 3}));
  ExpectFailure("field 'slot' is 3 of rail 0, which is not granted");
}

TEST_P(RdmaWritesTest, ARailThatThereIsNotFailsTheLane) {
  Open();
  raw_bulk_->Send(GrantsWanted(1));
  ExpectFailure("field 'rail' is 1, on which this lane grants nothing");
}

TEST_P(RdmaWritesTest, ARailThatHasItsGrantsIsGrantedNoMore) {
  Open();
  raw_bulk_->Send(GrantsWanted(0));
  raw_bulk_->Send(GrantsWanted(0));
  ExpectFailure("field 'rail' is 0, on which slots are granted already");
}

// The destination's slots are open to nobody who has not asked for it when he connected.
TEST_P(RdmaWritesTest, AQueuePairForReadsGrantsNothing) {
  Open(RdmaBulk::kRead);
  raw_bulk_->Send(GrantsWanted(0));
  ExpectFailure("field 'rail' is 0, on which this lane grants nothing");
}

TEST_P(RdmaWritesTest, AQueuePairForWritesReadsNothing) {
  Open();
  const RemotePlace place = registered_->Readable().Find({0, 0, 64}).value();
  raw_bulk_->Send(EncodeReadableFrame({0, 0, 64}, place));
  ExpectFailure("field 'rail' is 0, on which this lane reads nothing");
}

TEST_P(RdmaWritesTest, BeyondTheSlotsNothingCanBeWritten) {
  Open();
  raw_bulk_->Send(GrantsWanted(0));
  WriteGrant grant = Grants(kRdmaSlotsGranted).back();
  grant.address += kSlotBytes - 4096;  // of the last slot
  Write({0, 0, 64}, grant);
  ASSERT_TRUE(world_->WaitUntil([&] { return writes_failure_.failure().has_value(); }));
  EXPECT_NE(MessageOf(*writes_failure_.failure()).find("remote access error"), std::string::npos)
      << *writes_failure_.failure();
  // The device tells the destination, too.
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(notes_.runs().empty());
}

// Answers on RDMA as one that was built before there were WRITEs.
class OldDestination : public RdmaEventListener {
 public:
  using DomainOf = std::function<absl::StatusOr<std::shared_ptr<RdmaDomain>>(const rdma_cm_id&)>;
  OldDestination(RdmaEvents* events, const SessionToken& token, DomainOf domain_of)
      : token_(token), domain_of_(std::move(domain_of)), listener_(events->MakeId(this).value()) {
    SocketAddress address = ResolveTcp({RdmaHost(), 0}, /*numeric_only=*/true).value().front();
    EXPECT_EQ(rdma_bind_addr(listener_.get(), reinterpret_cast<sockaddr*>(&address.storage)), 0);
    EXPECT_EQ(rdma_listen(listener_.get(), 1), 0);
  }
  uint16_t port() const { return ntohs(rdma_get_src_port(listener_.get())); }

 private:
  void OnRdmaEvent(const RdmaEvent& event) override {
    if (event.type != RDMA_CM_EVENT_CONNECT_REQUEST) return;
    connection_ =
        RdmaConnection::Make(RdmaId(event.id), domain_of_(*event.id).value(), {.reads_max = 1}, {})
            .value();
    EXPECT_TRUE(connection_->BringUp().ok());
    const RdmaGreeting answer =
        MakeRdmaGreeting(RdmaEnd::kDestination, ConnectionRole::kBulk, token_, 0, 1);
    rdma_conn_param parameters = connection_->parameters();
    parameters.private_data = answer.data();
    parameters.private_data_len = 17;
    EXPECT_EQ(rdma_accept(connection_->id(), &parameters), 0);
  }

  const SessionToken token_;
  const DomainOf domain_of_;
  RdmaId listener_;
  std::unique_ptr<RdmaConnection> connection_;
};

TEST_P(RdmaWritesTest, ADestinationThatKnowsNoneIsNamed) {
  MakeEvents();
  const SessionToken token = {1, 2, 3};
  std::unique_ptr<OldDestination> old;
  world_->RunOn(Place::kSourceControl, [&] {
    old = std::make_unique<OldDestination>(events_.get(), token,
                                           [this](const rdma_cm_id& id) { return DomainOf(id); });
  });
  EXPECT_TRUE(Connect(ConnectionRole::kBulk, token, {}, old->port()).ok());
  const absl::Status refused =
      Connect(ConnectionRole::kBulk, token, {.bulk = RdmaBulk::kWrite}, old->port());
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_NE(MessageOf(refused).find("or give bulk=read"), std::string::npos) << refused;
  world_->RunOn(Place::kSourceControl, [&] { old.reset(); });
}

// The source's end alone, on a queue pair that is connected to nothing.
class HostileGrantsTest : public ::testing::Test, PushLane::Listener {
 protected:
  HostileGrantsTest() {
    bulk_.StartThread();
    events_ = RdmaEvents::Make(&poller_, [](const auto&) {}).value();
    RdmaId id = events_->MakeId(nullptr).value();
    SocketAddress address = ResolveTcp({RdmaHost(), 0}, /*numeric_only=*/true).value().front();
    EXPECT_EQ(rdma_bind_addr(id.get(), reinterpret_cast<sockaddr*>(&address.storage)), 0);
    domain_ =
        RdmaDomain::MakeBeside(*id, events_.get(), &domain_poller_, [](const auto&) {}).value();
    link_->Establish(
        RdmaConnection::Make(std::move(id), domain_, {.writes_max = kRdmaRunsUnderWayMax}, {})
            .value());
    registered_ =
        RegisteredMemory::Make(domain_, &SharedTestMemory(), 0, page_tables_.get()).value();
    while (registered_->RegisterSome().value()) {
    }
    std::array<int, 2> ends{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
    peer_ = FileDescriptor(ends[0]);
    lane_ = std::make_unique<RdmaPushLane>(&bulk_, TcpConnection{FileDescriptor(ends[1]), nullptr},
                                           std::vector<RdmaPushRail>{{0, link_, registered_}},
                                           std::make_shared<std::atomic<uint64_t>>(0),
                                           RdmaPushLane::Settings{});
    bulk_.Post([this] { lane_->Start(&SharedTestMemory(), this); });
  }
  ~HostileGrantsTest() override {
    bulk_.Post([this] {
      lane_->Stop();
      bulk_.Stop();
    });
    bulk_.Join();
    lane_.reset();
    link_->Release();
  }

  // The destination says so, in two pieces.
  bool Say(const WriteGrant& grant) {
    std::array<std::byte, kWriteGrantBytes> bytes;
    EncodeWriteGrant(grant, bytes);
    EXPECT_EQ(send(peer_.get(), bytes.data(), 7, MSG_NOSIGNAL), 7);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return send(peer_.get(), bytes.data() + 7, bytes.size() - 7, MSG_NOSIGNAL) == 13;
  }

  // What the lane fails with once the destination has said this.
  std::string FailureOf(const WriteGrant& grant) {
    EXPECT_TRUE(Say(grant));
    for (int i = 0; i < 500 && !notes_.failure().has_value(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return notes_.failure().has_value() ? MessageOf(*notes_.failure()) : "none";
  }

  void OnLaneWritable() override {}
  void OnLaneFailed(absl::Status status) override { notes_.Note(std::move(status)); }

  const WriteGrant good_{.address = 0x10000, .key = 1, .bytes = kSlotBytes, .rail = 0, .slot = 1};
  FailureNotes notes_;
  HeldPoller poller_;
  HeldPoller domain_poller_;
  const FileDescriptor page_tables_{open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
  std::unique_ptr<RdmaEvents> events_;
  std::shared_ptr<RdmaDomain> domain_;
  std::shared_ptr<RegisteredMemory> registered_;
  std::shared_ptr<RdmaLink> link_ = std::make_shared<RdmaLink>();
  FileDescriptor peer_;
  Loop bulk_{"bulk"};
  std::unique_ptr<RdmaPushLane> lane_;
};

TEST_F(HostileGrantsTest, OfARailThatTheLaneHasNotFailsItByName) {
  WriteGrant grant = good_;
  grant.rail = 3;
  EXPECT_NE(FailureOf(grant).find("field 'rail' is 3"), std::string::npos);
}

TEST_F(HostileGrantsTest, OfAnotherSizeFailsItByName) {
  WriteGrant grant = good_;
  grant.bytes = 1 << 30;
  EXPECT_NE(FailureOf(grant).find("field 'bytes' is 1073741824"), std::string::npos);
}

TEST_F(HostileGrantsTest, OfASlotThatIsGrantedFailsItByName) {
  ASSERT_TRUE(Say(good_));
  EXPECT_NE(FailureOf(good_).find("field 'slot' is 1, which is granted already"),
            std::string::npos);
}

}  // namespace
}  // namespace faultline::contract
