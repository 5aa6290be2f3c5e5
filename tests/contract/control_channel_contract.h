// Control connections: what every transport must do. Include once, then instantiate
// ControlChannelContract.
#ifndef FAULTLINE_TESTS_CONTRACT_CONTROL_CHANNEL_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_CONTROL_CHANNEL_CONTRACT_H_

#include <memory>
#include <vector>

#include "contract/transport_world.h"

namespace faultline::contract {

class ControlChannelContract : public TransportContract {
 protected:
  void StartBoth() {
    world_->RunOn(Place::kSourceControl, [&] { source_channel_->Start(&source_notes_); });
    world_->RunOn(Place::kControl, [&] { channel_->Start(&notes_); });
  }

  // A raw peer in place of the source, and the destination's channel, started.
  void ConnectRawControl() {
    raw_ = world_->ConnectRaw(ConnectionRole::kControl);
    raw_->Send(BytesOf(HelloFor(ConnectionRole::kControl)));
    TakeArrived();
    world_->RunOn(Place::kControl, [&] { channel_->Start(&notes_); });
  }

  void TearDown() override {
    raw_.reset();  // it is on the world's network
    TransportContract::TearDown();
  }

  ChannelNotes source_notes_;
  ChannelNotes notes_;
  std::unique_ptr<RawPeer> raw_;
};

TEST_P(ControlChannelContract, HelloArrivesAndMessagesKeepTheirOrderBothWays) {
  ConnectControl();
  ASSERT_NE(channel_, nullptr);
  EXPECT_EQ(hello_, HelloFor(ConnectionRole::kControl));
  EXPECT_FALSE(channel_->peer_name().empty());
  std::vector<Message> sent;
  for (uint64_t i = 0; i < 500; ++i) {
    sent.push_back(Progress{i, i * 2, i * 3});
    if (i % 7 == 0) sent.push_back(Heartbeat{});
  }
  // Sent before anybody has started listening: they wait.
  world_->RunOn(Place::kSourceControl, [&] {
    for (const Message& message : sent) source_channel_->Send(message);
  });
  StartBoth();
  world_->RunOn(Place::kControl, [&] {
    for (const Message& message : sent) channel_->Send(message);
  });
  ASSERT_TRUE(world_->WaitUntil([&] {
    return notes_.messages().size() == sent.size() &&
           source_notes_.messages().size() == sent.size();
  }));
  EXPECT_EQ(notes_.messages(), sent);
  EXPECT_EQ(source_notes_.messages(), sent);
  EXPECT_GT(world_->source().bytes_wire(), 2 * sent.size() * kMessageHeaderBytes);
}

TEST_P(ControlChannelContract, LargeMessagesArriveWhole) {
  ConnectControl();
  StartBoth();
  AllocatedRanges ranges;
  for (uint64_t i = 0; i < kRangesPerMessageMax; ++i) ranges.ranges.push_back({i * 4, i * 4 + 2});
  DeviceState state;
  for (size_t i = 0; i < kDeviceStateChunkBytesMax; ++i) {
    state.bytes.push_back(static_cast<std::byte>(i * 31));
  }
  std::vector<Message> sent;
  for (int i = 0; i < 8; ++i) {
    sent.push_back(ranges);
    sent.push_back(state);
    sent.push_back(Heartbeat{});
  }
  world_->RunOn(Place::kSourceControl, [&] {
    for (const Message& message : sent) source_channel_->Send(message);
  });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.messages().size() == sent.size(); }));
  EXPECT_TRUE(notes_.messages() == sent);
}

TEST_P(ControlChannelContract, ClosingDeliversWhatWasSentThenUnavailable) {
  ConnectControl();
  StartBoth();
  world_->RunOn(Place::kControl, [&] {
    channel_->Send(PeerError{PeerErrorCode::kPrepare, "no room"});
    channel_.reset();
  });
  ASSERT_TRUE(world_->WaitUntil([&] { return source_notes_.closed().has_value(); }));
  ASSERT_EQ(source_notes_.messages().size(), 1u);
  EXPECT_EQ(source_notes_.messages()[0], Message(PeerError{PeerErrorCode::kPrepare, "no room"}));
  EXPECT_TRUE(absl::IsUnavailable(*source_notes_.closed())) << *source_notes_.closed();
  world_->RunOn(Place::kSourceControl, [&] { source_channel_->Send(Heartbeat{}); });
}

TEST_P(ControlChannelContract, MessagesInPiecesArriveWhole) {
  ConnectRawControl();
  std::vector<std::byte> bytes = BytesOf(Offer{TestLayout(), "QEMU 7.2"});
  for (std::byte byte : bytes) raw_->Send({&byte, 1});
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.messages().size() == 1; }));
  EXPECT_EQ(notes_.messages()[0], Message(Offer{TestLayout(), "QEMU 7.2"}));
}

TEST_P(ControlChannelContract, GarbageClosesWithAnErrorThatNamesTheField) {
  ConnectRawControl();
  raw_->Send(BytesOf(Heartbeat{}));
  std::vector<std::byte> bad = BytesOf(Commit{});
  bad[kMessageHeaderBytes] = std::byte{7};  // run: neither 0 nor 1
  raw_->Send(bad);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.closed().has_value(); }));
  EXPECT_EQ(notes_.messages().size(), 1u);
  EXPECT_TRUE(absl::IsInvalidArgument(*notes_.closed()));
  std::string text = MessageOf(*notes_.closed());
  EXPECT_NE(text.find("Commit"), std::string::npos) << text;
  EXPECT_NE(text.find("'run'"), std::string::npos) << text;
}

TEST_P(ControlChannelContract, DeviceStateArrivesAsItWasSent) {
  ConnectControl();
  StartBoth();
  std::vector<Message> sent;
  for (size_t bytes : {size_t{1}, size_t{1023}, size_t{70'000}, kDeviceStateChunkBytesMax}) {
    DeviceState zeros{.bytes = std::vector<std::byte>(bytes)};
    DeviceState noise = zeros;
    uint32_t word = 1;
    for (std::byte& byte : noise.bytes) {
      word = word * 1'664'525 + 1'013'904'223;
      byte = static_cast<std::byte>(word >> 24);
    }
    sent.emplace_back(std::move(zeros));
    sent.emplace_back(std::move(noise));
  }
  world_->RunOn(Place::kSourceControl, [&] {
    for (const Message& message : sent) source_channel_->Send(message);
  });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.messages().size() == sent.size(); }));
  EXPECT_TRUE(notes_.messages() == sent);
}

TEST_P(ControlChannelContract, TooMuchIsRefusedByItsHeader) {
  ConnectRawControl();
  std::vector<std::byte> header = BytesOf(DeviceState{});
  header[7] = std::byte{0xff};  // 4 GiB are promised
  raw_->Send(header);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.closed().has_value(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(*notes_.closed()));
  EXPECT_NE(MessageOf(*notes_.closed()).find("payload bytes"), std::string::npos);
}

TEST_P(ControlChannelContract, HalfAMessageAndTheEndIsUnavailable) {
  ConnectRawControl();
  std::vector<std::byte> bytes = BytesOf(Progress{1, 2, 3});
  raw_->Send(std::span(bytes).first(bytes.size() - 1));
  raw_.reset();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.closed().has_value(); }));
  EXPECT_TRUE(notes_.messages().empty());
  EXPECT_TRUE(absl::IsUnavailable(*notes_.closed())) << *notes_.closed();
}

TEST_P(ControlChannelContract, AListenerMayDestroyItsChannel) {
  class Destroyer : public ControlChannel::Listener {
   public:
    explicit Destroyer(std::unique_ptr<ControlChannel>* channel) : channel_(channel) {}
    void OnMessage(Message) override {
      ++messages_;
      channel_->reset();
    }
    void OnChannelClosed(absl::Status) override { ADD_FAILURE() << "it destroyed the channel"; }
    int messages_ = 0;

   private:
    std::unique_ptr<ControlChannel>* channel_;
  };
  ConnectRawControl();
  auto second = world_->ConnectRaw(ConnectionRole::kControl);
  second->Send(BytesOf(HelloFor(ConnectionRole::kControl)));
  std::unique_ptr<ControlChannel> first = std::move(channel_);
  TakeArrived();
  Destroyer destroyer(&channel_);
  world_->RunOn(Place::kControl, [&] { channel_->Start(&destroyer); });
  second->Send(Join(BytesOf(Heartbeat{}), BytesOf(Heartbeat{})));
  ASSERT_TRUE(world_->WaitUntil([&] { return second->Closed(); }));
  world_->RunOn(Place::kControl, [&] {
    EXPECT_EQ(destroyer.messages_, 1);
    first.reset();
  });
}

TEST_P(ControlChannelContract, ASecondControlConnectionArrivesToo) {
  ConnectControl();
  auto first = std::move(channel_);
  auto first_source = std::move(source_channel_);
  ConnectControl();
  EXPECT_NE(channel_, nullptr);
  world_->RunOn(Place::kControl, [&] { first.reset(); });
  world_->RunOn(Place::kSourceControl, [&] { first_source.reset(); });
}

TEST_P(ControlChannelContract, StrangersGetNothingAndDisturbNobody) {
  auto talker = world_->ConnectRaw(ConnectionRole::kControl);
  talker->Send(Text("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"));
  auto wrong_first = world_->ConnectRaw(ConnectionRole::kControl);
  wrong_first->Send(BytesOf(Commit{}));
  auto silent = world_->ConnectRaw(ConnectionRole::kControl);
  ConnectControl();
  ASSERT_NE(channel_, nullptr);
  ASSERT_TRUE(world_->WaitUntil([&] { return talker->Closed() && wrong_first->Closed(); }));
  EXPECT_TRUE(talker->Received().empty());
  EXPECT_TRUE(wrong_first->Received().empty());
  EXPECT_FALSE(silent->Closed());
}

TEST_P(ControlChannelContract, AnotherVersionIsToldBothRanges) {
  auto peer = world_->ConnectRaw(ConnectionRole::kControl);
  Hello hello = HelloFor(ConnectionRole::kControl);
  hello.version_min = 7;
  hello.version_max = 9;
  peer->Send(BytesOf(hello));
  ASSERT_TRUE(world_->WaitUntil([&] { return peer->Closed(); }));
  auto answer = DecodeMessage(peer->Received());
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_TRUE(std::holds_alternative<PeerError>(answer->message));
  const auto& error = std::get<PeerError>(answer->message);
  EXPECT_EQ(error.code, PeerErrorCode::kVersion);
  EXPECT_NE(error.text.find("7 to 9"), std::string::npos) << error.text;
  EXPECT_NE(error.text.find("1 to 1"), std::string::npos) << error.text;
}

// Whether they may is decided by who listens.
TEST_P(ControlChannelContract, LaterConnectionsArriveWithTheirToken) {
  for (ConnectionRole role : {ConnectionRole::kOutcome, ConnectionRole::kResume}) {
    auto peer = world_->ConnectRaw(role);
    peer->Send(BytesOf(HelloFor(role)));
    TakeArrived();
    EXPECT_EQ(hello_, HelloFor(role));
    world_->RunOn(Place::kControl, [&] { channel_.reset(); });
  }
}

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_CONTROL_CHANNEL_CONTRACT_H_
