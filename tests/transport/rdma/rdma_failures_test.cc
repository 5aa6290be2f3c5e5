// What goes wrong with queue pairs and keys, with real verbs. Runs where rdma_contract_test does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "contract/demand_lane_fixture.h"
#include "transport/rdma/caller.h"
#include "transport/rdma/raw_source.h"
#include "transport/rdma/rdma_acceptor.h"
#include "transport/rdma/readable_frame.h"

namespace faultline::contract {
namespace {

class RdmaFailuresTest : public RawSourceTest {
 protected:
  void Open() {
    OpenRawLanes();
    world_->RunOn(Place::kDemand, [&] { reader_->Start(&notes_); });
    MakeEvents();
  }

  // What the destination answers to somebody who shows this.
  rdma_cm_event_type AnswerTo(const RdmaGreeting& shown) {
    std::unique_ptr<Caller> caller;
    std::optional<rdma_cm_event_type> answer;
    world_->RunOn(Place::kSourceControl, [&] {
      const TcpUri uri{RdmaHost(), world().port()};
      caller = std::make_unique<Caller>(
          events_.get(), ResolveTcp(uri, /*numeric_only=*/true).value().front(), shown);
    });
    EXPECT_TRUE(world_->WaitUntil([&] {
      world_->RunOn(Place::kSourceControl, [&] { answer = caller->answer(); });
      return answer.has_value();
    }));
    world_->RunOn(Place::kSourceControl, [&] { caller.reset(); });
    return *answer;
  }

  // The demand lane's queue pair, and the memory registered.
  void ConnectDemand() {
    ASSERT_TRUE(Connect(ConnectionRole::kDemand, TokenOf(*raw_demand_)).ok());
    Register();
    place_ = registered_->Readable().Find({0, 0, 100}).value();
  }

  // The source says so of pages 0 to 99, and the destination wants one of them.
  void NameAndRead(const RemotePlace& place) {
    raw_demand_->Send(EncodeReadableFrame({0, 0, 100}, place));
    world_->Settle();
    world_->RunOn(Place::kDemand, [&] { reader_->Read(std::vector<PageId>{{0, 7}}); });
  }

  ReaderNotes notes_{&memory_, &map_};
  RemotePlace place_;
};

class RdmaSmallPacketsTest : public RdmaFailuresTest {};

INSTANTIATE_TEST_SUITE_P(Rdma, RdmaSmallPacketsTest, ::testing::Values([] {
                           return std::make_unique<RdmaWorld>(
                               RdmaOptions{.tuning = {.mtu_bytes = 1024}});
                         }));
INSTANTIATE_TEST_SUITE_P(Rdma, RdmaFailuresTest,
                         ::testing::Values([] { return std::make_unique<RdmaWorld>(); }));

TEST_P(RdmaFailuresTest, WithTheRightKeyThePageComes) {
  Open();
  ConnectDemand();
  NameAndRead(place_);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == 1; }));
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(RdmaFailuresTest, AWrongKeyFailsTheLaneAndNothingIsPutIn) {
  Open();
  ConnectDemand();
  NameAndRead({place_.address, place_.key ^ 0x5a});
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*notes_.failure())) << *notes_.failure();
  EXPECT_NE(MessageOf(*notes_.failure()).find("remote access error"), std::string::npos)
      << *notes_.failure();
  EXPECT_EQ(notes_.page_count(), 0u);
}

TEST_P(RdmaFailuresTest, ThePlacesOfTheDemandLaneAreOfOneRail) {
  Open();
  ConnectDemand();
  place_.more = 1;
  NameAndRead(place_);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_NE(MessageOf(*notes_.failure()).find("'more' are 0 and 1"), std::string::npos)
      << *notes_.failure();
  EXPECT_EQ(notes_.page_count(), 0u);
}

TEST_P(RdmaFailuresTest, BeyondTheRegistrationIsRefusedByTheDevice) {
  Open();
  ConnectDemand();
  // Pages 1000 to 1499 hold nothing and are not registered.
  NameAndRead({place_.address + 1000 * 4096, place_.key});
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_EQ(notes_.page_count(), 0u);
}

TEST_P(RdmaFailuresTest, WhoCannotShowTheTokenIsRefusedAndDisturbsNobody) {
  Open();
  SessionToken token = TokenOf(*raw_demand_);
  token[7] ^= 1;
  EXPECT_FALSE(Connect(ConnectionRole::kDemand, token).ok());
  token[7] ^= 1;
  EXPECT_FALSE(Connect(ConnectionRole::kBulk, token).ok()) << "another lane's";
  EXPECT_TRUE(Connect(ConnectionRole::kDemand, token).ok());
  EXPECT_FALSE(Connect(ConnectionRole::kDemand, token).ok()) << "it serves once";
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(RdmaFailuresTest, AGreetingOfAnotherVersionIsRefusedAndDisturbsNobody) {
  Open();
  const SessionToken token = TokenOf(*raw_demand_);
  const RdmaGreeting good = MakeRdmaGreeting(RdmaEnd::kSource, ConnectionRole::kDemand, token);
  RdmaGreeting newer = good;
  newer[4] = static_cast<std::byte>(kRdmaVersion + 1);
  EXPECT_EQ(AnswerTo(newer), RDMA_CM_EVENT_REJECTED);
  RdmaGreeting foreign = good;
  foreign[0] ^= std::byte{1};
  EXPECT_EQ(AnswerTo(foreign), RDMA_CM_EVENT_REJECTED);
  EXPECT_TRUE(Connect(ConnectionRole::kDemand, token).ok()) << "the lane still waits for its own";
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(RdmaFailuresTest, TwoLanesHaveTwoTokensAndNeitherIsTheMigrations) {
  Open();
  EXPECT_NE(TokenOf(*raw_demand_), TokenOf(*raw_bulk_));
  EXPECT_NE(TokenOf(*raw_demand_), kToken);
  EXPECT_FALSE(Connect(ConnectionRole::kDemand, kToken).ok());
}

TEST_P(RdmaFailuresTest, AQueuePairThatEndsFailsTheLane) {
  Open();
  ConnectDemand();
  NameAndRead(place_);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == 1; }));
  world_->RunOn(Place::kSourceControl, [&] { rdma_disconnect(connections_.front()->id()); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*notes_.failure())) << *notes_.failure();
}

TEST_P(RdmaFailuresTest, WhatTheSourceChoosesHoldsOnItsQueuePair) {
  Open();
  const RdmaTuning tuning{.device = "rxe0",
                          .port = 1,
                          .gid_index = 1,
                          .type_of_service = 104,
                          .mtu_bytes = 512,
                          .retries = 3,
                          .ack_timeout = 14};
  ASSERT_TRUE(Connect(ConnectionRole::kDemand, TokenOf(*raw_demand_), tuning).ok());
  ibv_qp_attr attributes{};
  ibv_qp_init_attr made{};
  ASSERT_EQ(ibv_query_qp(connections_.front()->queue_pair(), &attributes,
                         IBV_QP_PATH_MTU | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_AV, &made),
            0);
  EXPECT_EQ(attributes.path_mtu, IBV_MTU_512);
  EXPECT_EQ(attributes.timeout, 14);
  EXPECT_EQ(attributes.retry_cnt, 3);
  EXPECT_EQ(attributes.ah_attr.grh.sgid_index, 1);
  EXPECT_EQ(attributes.ah_attr.grh.traffic_class, 104);
}

// Packets of 4 KiB to a queue pair that takes 1 KiB at a time would be dropped.
TEST_P(RdmaSmallPacketsTest, TheDestinationsPacketsAreTheSourcesToo) {
  Open();
  ConnectDemand();
  EXPECT_EQ(connections_.front()->mtu_bytes(), 1024u);
  NameAndRead(place_);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == 1; }));
}

TEST_P(RdmaFailuresTest, AnAddressOfAnotherDeviceIsRefused) {
  Open();
  const absl::Status status =
      Connect(ConnectionRole::kDemand, TokenOf(*raw_demand_), {.device = "rxe1"});
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(MessageOf(status).find("leads to port 1 of the RDMA device rxe0"), std::string::npos)
      << status;
  world_->RunOn(Place::kControl, [&] {
    RdmaAcceptor acceptor(&world().loop(Place::kControl), {.device = "rxe1"}, [](auto) {});
    const SocketAddress address =
        ResolveTcp({RdmaHost(), 0}, /*numeric_only=*/true).value().front();
    EXPECT_TRUE(absl::IsFailedPrecondition(acceptor.Listen(address)));
  });
}

// What the guest gave up and used again lies elsewhere than what is pinned.
TEST_P(RdmaFailuresTest, APageThatWasGivenUpAfterItsRegistrationIsNotReadable) {
  Open();
  ConnectDemand();
  const FileDescriptor file(memfd_create("ram", MFD_CLOEXEC));
  constexpr size_t kPages = 64;
  ASSERT_EQ(ftruncate(file.get(), kPages * 4096), 0);
  struct FileMemory : TestMemory {
    const MemoryLayout& layout() const override { return layout_; }
    absl::StatusOr<AllocationMap> ReadAllocationMap() override {
      AllocationMap map(1);
      map[0].Add(0, kPages);
      return map;
    }
    absl::StatusOr<std::span<std::byte>> Map(RegionIndex, size_t view) override {
      return views_[view];
    }
    MemoryLayout layout_{{"ram", kPages * 4096, 4096}};
    std::array<std::span<std::byte>, 2> views_;
  } memory;
  const std::vector<char> ones(kPages * 4096, 1);
  ASSERT_EQ(pwrite(file.get(), ones.data(), ones.size(), 0), static_cast<ssize_t>(ones.size()));
  for (std::span<std::byte>& view : memory.views_) {
    void* mapped = mmap(nullptr, ones.size(), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    ASSERT_NE(mapped, MAP_FAILED);
    view = {static_cast<std::byte*>(mapped), ones.size()};
  }
  auto registered = RegisteredMemory::Make(domain_, &memory, 0, page_tables_.get()).value();
  EXPECT_FALSE(registered->RegisterSome().value());
  // Pages 10 to 19 are given up, and 15 to 19 written again.
  ASSERT_EQ(fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * 4096, 10 * 4096),
            0);
  ASSERT_EQ(pwrite(file.get(), ones.data(), 5 * 4096, 15 * 4096), 5 * 4096);
  // What another device pins now, in a mapping of its own, does not put them back into this one.
  auto later = RegisteredMemory::Make(domain_, &memory, 1, page_tables_.get()).value();
  EXPECT_FALSE(later->RegisterSome().value());
  EXPECT_EQ(later->Readable().page_count(), kPages);
  const ReadablePages& readable = registered->Readable();
  EXPECT_EQ(readable.page_count(), kPages - 10);
  EXPECT_TRUE(readable.Find({0, 0, 10}).has_value());
  EXPECT_TRUE(readable.Find({0, 20, 44}).has_value());
  for (uint64_t page = 10; page < 20; ++page) {
    EXPECT_FALSE(readable.Find({0, page, 1}).has_value()) << page;
  }
  later.reset();
  registered.reset();
  for (const std::span<std::byte> view : memory.views_) munmap(view.data(), view.size());
}

}  // namespace
}  // namespace faultline::contract
