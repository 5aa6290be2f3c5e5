// A peer that speaks the protocol's words in the wrong place, with wrong content, or not at all.

#include <gtest/gtest.h>

#include "engine/migration_rig.h"

namespace faultline {
namespace {

// Speaks for the side that the test plays.
class RawPeer : public ControlChannel::Listener {
 public:
  void Take(std::unique_ptr<ControlChannel> channel) {
    channel_ = std::move(channel);
    channel_->Start(this);
  }
  void Send(const Message& message) { channel_->Send(message); }
  void OnMessage(Message message) override {
    if (!std::holds_alternative<Heartbeat>(message)) received_.push_back(std::move(message));
  }
  void OnChannelClosed(absl::Status) override { closed_ = true; }

  template <typename T>
  std::optional<T> Find() const {
    for (const Message& message : received_) {
      if (std::holds_alternative<T>(message)) return std::get<T>(message);
    }
    return std::nullopt;
  }
  bool connected() const { return channel_ != nullptr; }
  bool closed() const { return closed_; }

 private:
  std::unique_ptr<ControlChannel> channel_;
  std::vector<Message> received_;
  bool closed_ = false;
};

std::vector<Message> OneOfEach(const MemoryLayout& layout) {
  return {Hello{},
          Welcome{},
          Offer{.layout = layout, .vmm_version = "x"},
          Accepted{},
          Frozen{.layout = layout},
          AllocatedRanges{},
          AllocationMapEnd{},
          DeviceState{},
          DeviceStateEnd{},
          Loaded{},
          Commit{},
          Running{},
          Progress{},
          Completed{},
          Goodbye{},
          Ready{},
          PackedDeviceState{2, {std::byte{0}}}};
}

// The test is the source.
class BadSource {
 public:
  void Connect() {
    rig_.StartDestination();
    rig_.clock.AdvanceBy(10'000);
    Hello hello;
    hello.migration_id = {1};
    rig_.source_transport.Connect(hello, 1'000'000, [this](auto channel) {
      ASSERT_TRUE(channel.ok());
      peer_.Take(std::move(channel).value());
    });
    Settle();
  }
  void OpenLanes() {
    peer_.Send(Offer{.layout = rig_.options.layout, .vmm_version = "x"});
    Settle();
    ASSERT_TRUE(peer_.Find<Accepted>().has_value());
    rig_.source_transport.OpenLanes({.id = {1},
                                     .token = peer_.Find<Welcome>().value_or(Welcome{}).token,
                                     .layout = rig_.options.layout},
                                    1'000'000, [this](auto lanes) { lanes_ = *lanes; });
    Settle();
    ASSERT_TRUE(peer_.Find<Ready>().has_value());
  }
  void Settle() { rig_.clock.AdvanceBy(10'000); }
  void ExpectRefused(const std::string& part) {
    ASSERT_TRUE(rig_.RunUntil([&] { return rig_.destination_result.has_value(); }, 100'000));
    EXPECT_EQ(rig_.destination_result->owner, VmOwner::kSource);
    EXPECT_NE(MessageOf(rig_.destination_result->status).find(part), std::string::npos)
        << rig_.destination_result->status;
    EXPECT_TRUE(rig_.destination_vmm.discarded());
    Settle();
    EXPECT_NE(peer_.Find<PeerError>().value_or(PeerError{.text = "none"}).text.find(part),
              std::string::npos);
    EXPECT_TRUE(peer_.closed());
  }

  MigrationRig rig_;
  RawPeer peer_;
  SourceTransport::Lanes lanes_;
};

class BadSourceTest : public testing::Test, protected BadSource {};

TEST_F(BadSourceTest, MessagesBeforeTheOffer) {
  for (const Message& message : OneOfEach(RigOptions{}.layout)) {
    if (std::holds_alternative<Offer>(message)) continue;
    SCOPED_TRACE(MessageName(message));
    BadSource fresh;
    fresh.Connect();
    fresh.peer_.Send(message);
    fresh.ExpectRefused(std::string("sent ") + MessageName(message) + " where it has no place");
  }
}

TEST_F(BadSourceTest, MessagesBeforeTheFreeze) {
  for (const Message& message : OneOfEach(RigOptions{}.layout)) {
    if (std::holds_alternative<Frozen>(message) || std::holds_alternative<DeviceState>(message)) {
      continue;
    }
    SCOPED_TRACE(MessageName(message));
    BadSource fresh;
    fresh.Connect();
    fresh.OpenLanes();
    fresh.peer_.Send(message);
    fresh.ExpectRefused("where it has no place");
  }
}

TEST_F(BadSourceTest, LayoutsThatDoNotMatch) {
  MemoryLayout other = rig_.options.layout;
  other[1].size_bytes += 4096;
  Connect();
  peer_.Send(Offer{.layout = other, .vmm_version = "x"});
  ExpectRefused("ram1");
}

TEST_F(BadSourceTest, AllocationMapsThatCannotBe) {
  struct Case {
    std::vector<AllocatedRanges> maps;
    uint64_t data_pages;
    const char* field;
  };
  const std::vector<Case> cases = {
      {{{.region = 2, .ranges = {{0, 1}}}}, 1, "AllocatedRanges.region"},
      {{{.region = 0, .ranges = {{0, 65}}}}, 65, "AllocatedRanges.ranges"},
      {{{.region = 0, .ranges = {{4, 8}}}, {.region = 0, .ranges = {{0, 2}}}},
       6,
       "AllocatedRanges.ranges"},
      {{{.region = 0, .ranges = {{4, 8}}}}, 5, "AllocationMapEnd.data_pages"},
  };
  for (const Case& c : cases) {
    BadSource fresh;
    fresh.Connect();
    fresh.OpenLanes();
    fresh.peer_.Send(Frozen{.layout = fresh.rig_.options.layout});
    for (const AllocatedRanges& map : c.maps) fresh.peer_.Send(map);
    fresh.peer_.Send(AllocationMapEnd{.data_pages = c.data_pages});
    fresh.ExpectRefused(c.field);
  }
}

TEST_F(BadSourceTest, TooMuchDeviceState) {
  rig_.limits.device_state_bytes_max = 1000;
  Connect();
  OpenLanes();
  peer_.Send(DeviceState{.bytes = std::vector<std::byte>(1001)});
  ExpectRefused("DeviceState");
}

TEST_F(BadSourceTest, DeviceStateOfAnotherLength) {
  Connect();
  OpenLanes();
  peer_.Send(DeviceState{.bytes = std::vector<std::byte>(1001)});
  peer_.Send(Frozen{.layout = rig_.options.layout});
  peer_.Send(AllocationMapEnd{.data_pages = 0});
  peer_.Send(DeviceStateEnd{.bytes_total = 1000});
  ExpectRefused("DeviceStateEnd.bytes_total");
}

TEST_F(BadSourceTest, SaysNothing) {
  Connect();
  ASSERT_TRUE(rig_.RunUntil([&] { return rig_.destination_result.has_value(); }, 12'000'000));
  EXPECT_EQ(rig_.destination_result->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(rig_.destination_vmm.discarded());
}

TEST_F(BadSourceTest, NeverOpensItsLanes) {
  Connect();
  peer_.Send(Offer{.layout = rig_.options.layout, .vmm_version = "x"});
  std::unique_ptr<Timer> timer;
  std::function<void()> beat = [&] {
    if (!peer_.closed()) peer_.Send(Heartbeat{});
    timer = rig_.source_threads.control.RunAfter(100'000, beat);
  };
  beat();
  ASSERT_TRUE(rig_.RunUntil([&] { return rig_.destination_result.has_value(); }, 12'000'000));
  EXPECT_NE(MessageOf(rig_.destination_result->status).find("lanes"), std::string::npos);
}

// The test is the destination.
class BadDestination {
 public:
  void Start() {
    EXPECT_TRUE(rig_.destination_transport
                    .Listen([this](const Hello& hello, auto channel) {
                      hello_ = hello;
                      peer_.Take(std::move(channel));
                    })
                    .ok());
    rig_.StartSource();
    rig_.RunUntil([&] { return peer_.connected(); });
  }
  void ExpectRolledBack(const std::string& part) {
    ASSERT_TRUE(rig_.RunUntil([&] { return rig_.source_result.has_value(); }, 2'000'000));
    rig_.ExpectRolledBack();
    EXPECT_NE(MessageOf(rig_.source_result->status).find(part), std::string::npos)
        << rig_.source_result->status;
  }

  MigrationRig rig_;
  RawPeer peer_;
  Hello hello_;
};

class BadDestinationTest : public testing::Test, protected BadDestination {};

TEST_F(BadDestinationTest, MessagesInPlaceOfWelcome) {
  for (const Message& message : OneOfEach(RigOptions{}.layout)) {
    if (std::holds_alternative<Welcome>(message)) continue;
    SCOPED_TRACE(MessageName(message));
    BadDestination fresh;
    fresh.Start();
    fresh.peer_.Send(message);
    fresh.ExpectRolledBack("where it has no place");
  }
}

TEST_F(BadDestinationTest, MessagesInPlaceOfAccepted) {
  for (const Message& message : OneOfEach(RigOptions{}.layout)) {
    if (std::holds_alternative<Accepted>(message)) continue;
    SCOPED_TRACE(MessageName(message));
    BadDestination fresh;
    fresh.Start();
    fresh.peer_.Send(Welcome{});
    fresh.peer_.Send(message);
    fresh.ExpectRolledBack("where it has no place");
  }
}

TEST_F(BadDestinationTest, RefusesWithAReason) {
  Start();
  peer_.Send(PeerError{.code = PeerErrorCode::kVersion, .text = "speaks version 9 only"});
  ExpectRolledBack("speaks version 9 only");
}

TEST_F(BadDestinationTest, SaysNothing) {
  Start();
  ASSERT_TRUE(rig_.RunUntil([&] { return rig_.source_result.has_value(); }, 12'000'000));
  EXPECT_EQ(rig_.source_result->status.code(), absl::StatusCode::kDeadlineExceeded);
  rig_.ExpectRolledBack();
}

}  // namespace
}  // namespace faultline
