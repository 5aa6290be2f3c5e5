// What is TCP's own: addresses that do not answer, strangers in numbers, pacing, real networks'
// errors.
#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include <atomic>
#include <chrono>

#include "contract/bulk_lane_fixture.h"
#include "transport/tcp/tcp_dialer.h"
#include "transport/tcp/tcp_socket.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

TcpDialer::Target PlainTarget(const std::string& text) {
  return {ParseTcpUri(text).value(), nullptr, std::make_shared<std::atomic<uint64_t>>()};
}

// What connecting to `text` ends with.
absl::Status Dial(const std::string& text, int64_t timeout_us) {
  Loop loop("dial");
  absl::Status result = absl::InternalError("never called");
  std::unique_ptr<TcpDialer> dialer;
  loop.Post([&] {
    dialer = std::make_unique<TcpDialer>(&loop, PlainTarget(text), timeout_us,
                                         [&](absl::StatusOr<TcpConnection> connection) {
                                           result = connection.status();
                                           loop.Stop();
                                         });
  });
  loop.Run();
  return result;
}

// A port on 127.0.0.1 that nobody listens on.
uint16_t FreePort() {
  FileDescriptor fd = ListenTcp({"127.0.0.1", 0}).value();
  return ParseTcpUri("tcp://" + LocalAddressOf(fd.get()).text())->port;
}

TEST(TcpDialerTest, RefusedNamesTheAddressAndTheMend) {
  std::string address = "127.0.0.1:" + std::to_string(FreePort());
  absl::Status status = Dial("tcp://" + address, 5'000'000);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(MessageOf(status).find(address), std::string::npos) << status;
  EXPECT_NE(MessageOf(status).find("is `faultline receive --listen` running there?"),
            std::string::npos)
      << status;
}

TEST(TcpDialerTest, UnknownNameIsNotFound) {
  absl::Status status = Dial("tcp://no-such-host.invalid:4444", 10'000'000);
  // Without a resolver the name may also just never be answered for.
  EXPECT_TRUE(absl::IsNotFound(status) || absl::IsDeadlineExceeded(status)) << status;
  EXPECT_NE(MessageOf(status).find("no-such-host.invalid"), std::string::npos) << status;
}

TEST(TcpDialerTest, SilenceIsATimeoutThatNamesTheAddress) {
  // A listener whose backlog is full answers no SYN.
  FileDescriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)), 0);
  ASSERT_EQ(listen(listener.get(), 0), 0);
  std::string address = LocalAddressOf(listener.get()).text();
  std::vector<FileDescriptor> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SocketAddress to = LocalAddressOf(listener.get());
    connect(fillers.back().get(), to.get(), to.length);
  }
  auto begin = std::chrono::steady_clock::now();
  absl::Status status = Dial("tcp://" + address, 200'000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_NE(MessageOf(status).find(address), std::string::npos) << status;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(TcpDialerTest, MayBeGivenUp) {
  Loop loop("dial");
  loop.Post([&] {
    for (const char* text : {"tcp://127.0.0.1:1", "tcp://no-such-host.invalid:1"}) {
      auto dialer = std::make_unique<TcpDialer>(
          &loop, PlainTarget(text), 1'000'000,
          [](const absl::StatusOr<TcpConnection>&) { ADD_FAILURE() << "it was given up"; });
    }
  });
  auto timer = std::unique_ptr<Timer>();
  loop.Post([&] { timer = loop.RunAfter(20'000, [&] { loop.Stop(); }); });
  loop.Run();
}

TEST(TcpListenTest, TakenPortNamesTheAddressAndTheMend) {
  FileDescriptor first = ListenTcp({"127.0.0.1", 0}).value();
  std::string address = LocalAddressOf(first.get()).text();
  auto second = ListenTcp(ParseTcpUri("tcp://" + address).value());
  ASSERT_FALSE(second.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_NE(MessageOf(second.status()).find(address), std::string::npos);
  EXPECT_NE(MessageOf(second.status()).find("choose another port"), std::string::npos);
}

TEST(TcpListenTest, ForeignAddressIsNamed) {
  auto listener = ListenTcp({"192.0.2.7", 4444});
  ASSERT_FALSE(listener.ok());
  EXPECT_NE(MessageOf(listener.status()).find("192.0.2.7"), std::string::npos);
}

TEST(TcpListenTest, Ipv6WorksToo) {
  auto listener = ListenTcp({"::1", 0});
  if (!listener.ok()) GTEST_SKIP() << "this host has no IPv6 loopback: " << listener.status();
  std::string address = LocalAddressOf(listener->get()).text();
  EXPECT_EQ(address.substr(0, 6), "[::1]:");
  EXPECT_TRUE(Dial("tcp://" + address, 5'000'000).ok());
}

TEST(TcpTuneTest, OnlyTheBulkLaneHasNoUserTimeout) {
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  unsigned value = 0;
  socklen_t length = sizeof(value);
  ASSERT_TRUE(TuneTcp(fd.get(), TcpUse::kBulk).ok());
  getsockopt(fd.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &length);
  EXPECT_EQ(value, 0u);
  ASSERT_TRUE(TuneTcp(fd.get(), TcpUse::kDemand).ok());
  getsockopt(fd.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &length);
  EXPECT_GT(value, 0u);
}

class TcpTransportTest : public TransportContract {};
INSTANTIATE_TEST_SUITE_P(Tcp, TcpTransportTest, ::testing::Values(WorldFactory([] {
                           TcpOptions options;
                           options.hello_timeout_us = 100'000;
                           return std::make_unique<TcpWorld>(options);
                         })));

TEST_P(TcpTransportTest, AddressNamesTheRealPort) {
  auto uri = ParseTcpUri(world_->destination().address());
  ASSERT_TRUE(uri.ok()) << uri.status();
  EXPECT_NE(uri->port, 0);
  EXPECT_TRUE(IsLoopback(*uri));
}

TEST_P(TcpTransportTest, SilentAndHalfStrangersAreClosedAfterTheTimeout) {
  auto silent = world_->ConnectRaw(ConnectionRole::kControl);
  auto half = world_->ConnectRaw(ConnectionRole::kControl);
  auto hello = BytesOf(HelloFor(ConnectionRole::kControl));
  half->Send(std::span(hello).first(hello.size() - 1));
  ASSERT_TRUE(world_->WaitUntil([&] { return silent->Closed() && half->Closed(); }));
  EXPECT_TRUE(silent->Received().empty());
  EXPECT_TRUE(half->Received().empty());
}

TEST_P(TcpTransportTest, AHelloInPiecesIsGood) {
  auto slow = world_->ConnectRaw(ConnectionRole::kControl);
  for (std::byte byte : BytesOf(HelloFor(ConnectionRole::kControl))) slow->Send({&byte, 1});
  TakeArrived();
}

class TcpSourceOfRdmaTest : public TransportContract {};
INSTANTIATE_TEST_SUITE_P(Tcp, TcpSourceOfRdmaTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>(TcpOptions{}, TlsPair{},
                                                             /*own_lane_tokens=*/true);
                         })));

TEST_P(TcpSourceOfRdmaTest, ADestinationOnRdmaIsNamedBeforeTheHandover) {
  ExpectLanes();
  OpenSourceLanes();
  ASSERT_TRUE(world_->WaitUntil([&] { return source_lanes_outcome().has_value(); }));
  EXPECT_TRUE(absl::IsFailedPrecondition(*source_lanes_outcome())) << *source_lanes_outcome();
  EXPECT_NE(
      MessageOf(*source_lanes_outcome()).find("listens on rdma://; give --to rdma://127.0.0.1:"),
      std::string::npos)
      << *source_lanes_outcome();
}

class TcpStrangersTest : public TransportContract {};
INSTANTIATE_TEST_SUITE_P(Tcp, TcpStrangersTest, ::testing::Values(WorldFactory([] {
                           TcpOptions options;
                           options.hello_timeout_us = 600'000'000;
                           return std::make_unique<TcpWorld>(options);
                         })));
INSTANTIATE_TEST_SUITE_P(Tls, TcpStrangersTest, ::testing::Values(WorldFactory([] {
                           TcpOptions options;
                           options.hello_timeout_us = 600'000'000;
                           return std::make_unique<TcpWorld>(options, PskPair());
                         })));

TEST_P(TcpStrangersTest, ACrowdOfSilentOnesDelaysNobody) {
  std::vector<std::unique_ptr<RawPeer>> crowd;
  for (int i = 0; i < 100; ++i) crowd.push_back(world_->ConnectRaw(ConnectionRole::kControl));
  ConnectControl();
  EXPECT_NE(channel_, nullptr);
  // The oldest had to go; at most 32 are left.
  ASSERT_TRUE(world_->WaitUntil([&] {
    int open = 0;
    for (auto& peer : crowd) open += peer->Closed() ? 0 : 1;
    return open <= 32;
  }));
  OpenLanes();
}

TEST_P(TcpStrangersTest, AThirdLaneIsTurnedDown) {
  OpenLanes();
  auto extra = world_->ConnectRaw(ConnectionRole::kDemand);
  extra->Send(BytesOf(HelloFor(ConnectionRole::kDemand)));
  ASSERT_TRUE(world_->WaitUntil([&] { return extra->Closed(); }));
  auto answer = DecodeMessage(extra->Received());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(std::holds_alternative<PeerError>(answer->message));
}

constexpr uint64_t kPacedRate = 20'000'000;

class TcpPacingTest : public BulkLaneFixture {};
INSTANTIATE_TEST_SUITE_P(Tcp, TcpPacingTest, ::testing::Values(WorldFactory([] {
                           TcpOptions options;
                           options.bandwidth_bytes_per_second = kPacedRate;
                           return std::make_unique<TcpWorld>(options);
                         })));

TEST_P(TcpPacingTest, TheBulkLaneKeepsToItsRate) {
  OpenLanes();
  StartReceiver();
  std::vector<PageRun> runs;
  for (uint64_t i = 0; i < 76; ++i) runs.push_back({0, 1500 + 32 * i, 32});
  runs.push_back({1, 0, 1});
  MakePusher(runs);
  auto begin = std::chrono::steady_clock::now();
  StartPusher();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.finished(); }));
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  // The last run, a huge page, goes out at once when its turn has come.
  double paced = static_cast<double>(push_->bytes_sent() - (2 << 20));
  EXPECT_GE(took.count(), 0.95 * paced / static_cast<double>(kPacedRate));
  // A machine that is busy with other things may be late, but the rate is not missed by much.
  EXPECT_LE(took.count(), 1.5 * paced / static_cast<double>(kPacedRate) + 0.2);
  EXPECT_EQ(notes_.runs(), runs);
}

// Ends at any moment, with everything under way: nothing hangs, nothing crashes.
class TcpTeardownTest : public BulkLaneFixture {
 protected:
  struct ReaderSink : PageReader::Listener {
    void OnPage(PageId, std::span<const std::byte>, std::optional<uint64_t>) override {}
    void OnReaderFailed(absl::Status) override {}
  };
  struct ExporterSink : PageExporter::Listener {
    void OnDemand(PageId) override {}
    void OnExporterFailed(absl::Status) override {}
  };

  void StartEverything() {
    OpenLanes();
    StartReceiver();
    MakePusher(std::vector<PageRun>(10000, PageRun{0, 2000, 64}));
    StartPusher();
    world_->RunOn(Place::kSourceDemand, [&] { exporter_->Start(&memory_, &exporter_sink_); });
    world_->RunOn(Place::kDemand, [&] {
      reader_->Start(&reader_sink_);
      reader_->Read(std::vector<PageId>(5000, PageId{0, 1}));
    });
    ASSERT_TRUE(world_->WaitUntil([&] { return notes_.offers() > 3; }));
  }

  ReaderSink reader_sink_;
  ExporterSink exporter_sink_;
};
INSTANTIATE_TEST_SUITE_P(Tcp, TcpTeardownTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>();
                         })));
INSTANTIATE_TEST_SUITE_P(Tls, TcpTeardownTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>(TcpOptions{}, CertificatePair());
                         })));

TEST_P(TcpTeardownTest, LanesStoppedWithDataInFlight) {
  StartEverything();  // TearDown stops the source's ends first, under the destination's
}

TEST_P(TcpTeardownTest, LoopsEndUnderTheLanes) {
  StartEverything();
  exporter_ = nullptr;  // TearDown shall not stop them
  reader_ = nullptr;
}

}  // namespace
}  // namespace faultline::contract
