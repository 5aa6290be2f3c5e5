// The fake transport held to the same contract as the real ones.
#include <gtest/gtest.h>

#include "contract/bulk_lane_contract.h"
#include "contract/control_channel_contract.h"
#include "contract/demand_lane_contract.h"
#include "fakes/fake_transport.h"

namespace faultline::contract {
namespace {

class FakeRawPeer : public RawPeer {
 public:
  FakeRawPeer(ManualExecutor* executor, std::unique_ptr<FakeSocket> socket)
      : socket_(std::move(socket)) {
    socket_->Receive(
        executor,
        [this](const FakeSocket::Bytes& bytes) {
          received_.insert(received_.end(), bytes.begin(), bytes.end());
        },
        [this](const absl::Status&) { closed_ = true; });
  }
  void Send(std::span<const std::byte> bytes) override {
    socket_->Send({bytes.begin(), bytes.end()});
  }
  std::vector<std::byte> Received() override { return received_; }
  bool Closed() override { return closed_; }

 private:
  std::vector<std::byte> received_;
  bool closed_ = false;
  const std::unique_ptr<FakeSocket> socket_;
};

class FakeWorld : public TransportWorld {
 public:
  explicit FakeWorld(uint64_t seed) : clock_(seed) {
    EXPECT_TRUE(destination_
                    .Listen([this](Hello hello, std::unique_ptr<ControlChannel> channel) {
                      arrived_.emplace_back(hello, std::move(channel));
                    })
                    .ok());
  }
  SourceTransport& source() override { return source_; }
  DestinationTransport& destination() override { return destination_; }
  std::vector<std::pair<Hello, std::unique_ptr<ControlChannel>>>& arrived() override {
    return arrived_;
  }
  void RunOn(Place place, const std::function<void()>& task) override {
    ManualExecutor* executors[] = {&source_control_, &source_demand_, &source_bulk_,
                                   &control_,        &demand_,        &bulk_};
    bool ran = false;
    executors[static_cast<int>(place)]->Post([&] {
      task();
      ran = true;
    });
    clock_.RunUntil([&] { return ran; });
  }
  bool WaitUntil(const std::function<bool()>& done) override { return clock_.RunUntil(done); }
  void Settle() override { clock_.AdvanceBy(50'000); }
  std::unique_ptr<RawPeer> ConnectRaw(ConnectionRole role) override {
    return std::make_unique<FakeRawPeer>(&source_control_, network_.Connect(role));
  }

 private:
  ManualClock clock_;
  FakeNetwork network_{&clock_};
  ManualExecutor source_control_{&clock_};
  ManualExecutor source_demand_{&clock_};
  ManualExecutor source_bulk_{&clock_};
  ManualExecutor control_{&clock_};
  ManualExecutor demand_{&clock_};
  ManualExecutor bulk_{&clock_};
  std::vector<std::pair<Hello, std::unique_ptr<ControlChannel>>> arrived_;
  FakeSourceTransport source_{&network_, &source_control_, &source_demand_, &source_bulk_};
  FakeDestinationTransport destination_{&network_, &control_, &demand_, &bulk_};
};

// Two orders of running the executors.
const auto kWorlds = ::testing::Values(WorldFactory([] { return std::make_unique<FakeWorld>(1); }),
                                       WorldFactory([] { return std::make_unique<FakeWorld>(2); }));

INSTANTIATE_TEST_SUITE_P(Fake, ControlChannelContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Fake, DemandLaneContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Fake, BulkLaneContract, kWorlds);

// --- What only the fake network can do ---

class FakeNetworkTest : public ::testing::Test {
 protected:
  FakeNetworkTest() {
    EXPECT_TRUE(destination_
                    .Listen([this](const Hello&, std::unique_ptr<ControlChannel> channel) {
                      if (channel_ != nullptr) return;  // the first is enough
                      channel_ = std::move(channel);
                      channel_->Start(&notes_);
                    })
                    .ok());
    source_.Connect(Hello{}, 1'000'000, [this](auto channel) {
      ASSERT_TRUE(channel.ok());
      source_channel_ = std::move(channel).value();
      source_channel_->Start(&source_notes_);
    });
    clock_.RunUntil([&] { return channel_ && source_channel_; });
  }

  ManualClock clock_;
  FakeNetwork network_{&clock_};
  ManualExecutor executor_{&clock_};
  FakeSourceTransport source_{&network_, &executor_, &executor_, &executor_};
  FakeDestinationTransport destination_{&network_, &executor_, &executor_, &executor_};
  ChannelNotes notes_, source_notes_;
  std::unique_ptr<ControlChannel> channel_, source_channel_;
};

TEST_F(FakeNetworkTest, CutIsHeardOnBothSidesAndLosesWhatWasUnderWay) {
  source_channel_->Send(Heartbeat{});
  network_.Cut();
  clock_.AdvanceBy(1'000'000);
  EXPECT_TRUE(notes_.messages().empty());
  EXPECT_TRUE(absl::IsUnavailable(notes_.closed().value()));
  EXPECT_TRUE(absl::IsUnavailable(source_notes_.closed().value()));
  std::optional<absl::Status> again;
  source_.Connect(Hello{}, 1'000'000, [&](auto channel) { again = channel.status(); });
  clock_.AdvanceBy(1'000'000);
  EXPECT_TRUE(absl::IsUnavailable(again.value()));
  network_.Mend();
  source_.Connect(Hello{}, 1'000'000, [&](auto channel) { again = channel.status(); });
  clock_.AdvanceBy(1'000'000);
  EXPECT_TRUE(again->ok());
}

TEST_F(FakeNetworkTest, StallDeliversNothingUntilMended) {
  network_.Stall();
  source_channel_->Send(Heartbeat{});
  std::optional<absl::Status> connected;
  source_.Connect(Hello{}, 1'000'000, [&](auto channel) { connected = channel.status(); });
  clock_.AdvanceBy(2'000'000);
  EXPECT_TRUE(notes_.messages().empty());
  EXPECT_FALSE(notes_.closed().has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(connected.value()));
  network_.Mend();
  clock_.AdvanceBy(1'000);
  EXPECT_EQ(notes_.messages().size(), 1u);
}

TEST_F(FakeNetworkTest, HookChoosesTheFateOfAMessage) {
  network_.set_control_hook([](const Message& message, bool from_source) {
    EXPECT_TRUE(from_source);
    if (std::holds_alternative<Heartbeat>(message)) return FakeFate::kDrop;
    if (std::holds_alternative<Commit>(message)) return FakeFate::kCutAfter;
    return FakeFate::kDeliver;
  });
  source_channel_->Send(Heartbeat{});
  source_channel_->Send(Loaded{});
  source_channel_->Send(Commit{});
  source_channel_->Send(Goodbye{});
  clock_.AdvanceBy(1'000'000);
  EXPECT_EQ(notes_.messages(), (std::vector<Message>{Loaded{}, Commit{}}));
  EXPECT_TRUE(notes_.closed().has_value());
  EXPECT_TRUE(source_notes_.closed().has_value());
}

TEST_F(FakeNetworkTest, LatencyAndBandwidthTakeTheirTime) {
  network_.set_latency_us(1000);
  network_.set_bandwidth_bytes_per_second(1'000'000);
  int64_t begin_ns = clock_.now_ns();
  DeviceState state;
  state.bytes.resize(100'000);
  source_channel_->Send(state);
  source_channel_->Send(state);
  ASSERT_TRUE(clock_.RunUntil([&] { return notes_.messages().size() == 2; }));
  EXPECT_NEAR(static_cast<double>(clock_.now_ns() - begin_ns) / 1e6, 201, 1);
}

}  // namespace
}  // namespace faultline::contract
