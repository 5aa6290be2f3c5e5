// TLS between two hosts that do not fit, strangers at a destination that takes TLS, and how bytes
// lie in records.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/text.h"
#include "contract/bulk_lane_fixture.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

constexpr int64_t kHelloTimeoutUs = 300'000;

std::shared_ptr<const TlsContext> SideOf(TlsRole role, const TlsSecrets& secrets,
                                         const std::string& peer_host = "127.0.0.1") {
  TlsOptions options;
  options.role = role;
  options.secrets = secrets;
  options.peer_host = peer_host;
  auto context = TlsContext::Make(options);
  EXPECT_TRUE(context.ok()) << context.status();
  return context.ok() ? *context : nullptr;
}

// How a source's attempt to reach a destination ended, for both.
struct Attempt {
  absl::Status source;
  std::string notice;  // what the destination's user was told
};

Attempt Try(TlsPair pair) {
  TcpWorld world(TcpOptions{.hello_timeout_us = kHelloTimeoutUs}, std::move(pair));
  Hello hello;
  hello.role = ConnectionRole::kControl;
  std::mutex mutex;
  std::optional<absl::Status> outcome;
  std::unique_ptr<ControlChannel> channel;
  ChannelNotes notes;
  world.RunOn(Place::kSourceControl, [&] {
    world.source().Connect(hello, 5'000'000, [&](auto connected) {
      std::lock_guard lock(mutex);
      outcome = connected.status();
      if (!connected.ok()) return;
      channel = std::move(*connected);
      channel->Start(&notes);
    });
  });
  // A source knows only from the destination's first word whether it was accepted.
  EXPECT_TRUE(world.WaitUntil([&] {
    bool arrived = false;
    world.RunOn(Place::kControl, [&] { arrived = !world.arrived().empty(); });
    std::lock_guard lock(mutex);
    return arrived || (outcome && !outcome->ok()) || notes.closed() || !notes.messages().empty();
  }));
  world.Settle();
  Attempt attempt{outcome.value_or(absl::UnknownError("no end")), ""};
  for (const Message& message : notes.messages()) {
    if (const auto* error = std::get_if<PeerError>(&message)) {
      attempt.source = absl::PermissionDeniedError(error->text);
    }
  }
  if (attempt.source.ok() && notes.closed()) attempt.source = *notes.closed();
  for (const std::string& notice : world.notices()) attempt.notice += notice;
  world.RunOn(Place::kSourceControl, [&] { channel.reset(); });
  return attempt;
}

void ExpectSaid(const std::string& text, std::initializer_list<const char*> words) {
  for (const char* word : words) {
    EXPECT_NE(text.find(word), std::string::npos) << word << " is not in: " << text;
  }
}

void ExpectRefused(const Attempt& attempt, std::initializer_list<const char*> source,
                   std::initializer_list<const char*> destination) {
  EXPECT_FALSE(attempt.source.ok());
  ExpectSaid(MessageOf(attempt.source), source);
  ExpectSaid(attempt.notice, destination);
}

class TlsRefusalTest : public ::testing::Test {
 protected:
  TlsRefusalTest() { authority_.WriteAll(folder_); }

  std::shared_ptr<const TlsContext> Source() {
    return SideOf(TlsRole::kSource, {.directory = folder_.path()});
  }
  std::shared_ptr<const TlsContext> Destination() {
    return SideOf(TlsRole::kDestination, {.directory = folder_.path()});
  }
  std::shared_ptr<const TlsContext> WithKey(TlsRole role, const std::string& text) {
    psk_.Write("keys.psk", text);
    return SideOf(role, {.psk_path = psk_.File("keys.psk")});
  }

  TestFolder folder_;
  TestFolder foreign_;
  TestFolder psk_;
  TestAuthority authority_{"ours"};
};

TEST_F(TlsRefusalTest, FittingCertificatesAreAccepted) {
  Attempt attempt = Try({Source(), Destination()});
  EXPECT_TRUE(attempt.source.ok()) << attempt.source;
  EXPECT_EQ(attempt.notice, "");
}

TEST_F(TlsRefusalTest, DestinationOfAnotherAuthority) {
  TestAuthority("theirs").WriteAll(foreign_);
  ExpectRefused(Try({Source(), SideOf(TlsRole::kDestination, {.directory = foreign_.path()})}),
                {"127.0.0.1:", "CN=the destination", "no authority in", "ca-cert.pem"},
                {"refuses", "server-cert.pem", "has signed it"});
}

TEST_F(TlsRefusalTest, SourceOfAnotherAuthority) {
  // It trusts both authorities, so that the destination's certificate passes, and shows one of its
  // own that ours has not signed.
  TestAuthority("theirs").WriteAll(foreign_);
  foreign_.Write("ca-cert.pem", ReadTextFile(foreign_.File("ca-cert.pem")).value() +
                                    ReadTextFile(folder_.File("ca-cert.pem")).value());
  ExpectRefused(Try({SideOf(TlsRole::kSource, {.directory = foreign_.path()}), Destination()}),
                {"refuses", "client-cert.pem", "has signed it"},
                {"CN=the source", "no authority in"});
}

TEST_F(TlsRefusalTest, WrongHost) {
  authority_.Write(folder_, "server", {.name = "elsewhere", .hosts = "DNS:elsewhere.example"});
  ExpectRefused(Try({Source(), Destination()}),
                {"CN=elsewhere", "is not for '127.0.0.1'", "--tls-hostname"},
                {"server-cert.pem", "not for the name"});
  Attempt named = Try({SideOf(TlsRole::kSource, {.directory = folder_.path()}, "elsewhere.example"),
                       Destination()});
  EXPECT_TRUE(named.source.ok()) << named.source;
}

TEST_F(TlsRefusalTest, AnAddressInTheNameIsNoAddress) {
  authority_.Write(folder_, "server", {.name = "127.0.0.1", .hosts = "DNS:127.0.0.1"});
  ExpectRefused(Try({Source(), Destination()}), {"is not for '127.0.0.1'"}, {});
}

TEST_F(TlsRefusalTest, RevokedByThePeer) {
  authority_.Write(folder_, "client", {.name = "lost", .serial = 5});
  auto source = Source();
  authority_.WriteRevocations(folder_, 5);
  ExpectRefused(Try({source, Destination()}), {"client-cert.pem", "ca-crl.pem revokes it"},
                {"CN=lost", "ca-crl.pem' revokes it"});
}

// Loaded while it was good: a certificate that ends within seconds, which a slow machine must have
// time to load, too.
TEST_F(TlsRefusalTest, ExpiredMeanwhile) {
  constexpr long kGoodForS = 5;
  const TestCertificate ending{.name = "short", .until_days = 0, .until_s = kGoodForS};
  authority_.Write(folder_, "client", ending);
  TlsPair expired_source{Source(), Destination()};
  authority_.WriteAll(folder_);
  authority_.Write(folder_, "server", ending);
  TlsPair expired_destination{Source(), Destination()};
  // A date has no fraction of a second.
  std::this_thread::sleep_for(std::chrono::seconds(kGoodForS + 1));
  ExpectRefused(Try(expired_source), {"client-cert.pem", "has expired"},
                {"CN=short", "it has expired"});
  ExpectRefused(Try(expired_destination), {"CN=short", "it has expired"}, {"has expired"});
}

TEST_F(TlsRefusalTest, FittingKeysAreAccepted) {
  const std::string key(64, 'b');
  Attempt attempt =
      Try({WithKey(TlsRole::kSource, "two:" + key + "\n"),
           WithKey(TlsRole::kDestination, "one:" + std::string(32, 'c') + "\ntwo:" + key + "\n")});
  EXPECT_TRUE(attempt.source.ok()) << attempt.source;
}

TEST_F(TlsRefusalTest, AnotherKeyOfThatName) {
  ExpectRefused(Try({WithKey(TlsRole::kSource, "vms:" + std::string(64, 'b')),
                     WithKey(TlsRole::kDestination, "vms:" + std::string(64, 'c'))}),
                {"keys.psk", "another key of that name"}, {"has another key", "keys.psk"});
}

TEST_F(TlsRefusalTest, AnUnknownIdentity) {
  ExpectRefused(Try({WithKey(TlsRole::kSource, "ours:" + std::string(64, 'b')),
                     WithKey(TlsRole::kDestination, "theirs:" + std::string(64, 'b'))}),
                {"keys.psk", "does not know it"}, {"no identity", "keys.psk"});
}

TEST_F(TlsRefusalTest, AKeyAgainstACertificate) {
  auto source_key = WithKey(TlsRole::kSource, "vms:" + std::string(64, 'b'));
  auto destination_key = WithKey(TlsRole::kDestination, "vms:" + std::string(64, 'b'));
  ExpectRefused(Try({source_key, Destination()}), {"keys.psk", "proves itself by certificate"},
                {"refuses", "server-cert.pem"});
  ExpectRefused(Try({Source(), destination_key}), {"does not know it", "--tls-psk"},
                {"no identity", "keys.psk"});
}

TEST_F(TlsRefusalTest, PlainAgainstTls) {
  ExpectRefused(Try({nullptr, Destination()}),
                {"this destination speaks TLS only", "--tls-dir", "--insecure"},
                {"came without TLS", "--tls-dir", "--insecure"});
}

TEST_F(TlsRefusalTest, TlsAgainstPlain) {
  ExpectRefused(Try({Source(), nullptr}), {"answers without TLS", "--tls-dir", "--insecure"},
                {"wants TLS", "--tls-dir", "--insecure"});
}

// A source whose bytes on the wire a test lets through as it likes, up to any point within a
// record.
class TappedPeer {
 public:
  TappedPeer(uint16_t port, const TlsContext& context) : wire_(ConnectTo(port)) {
    auto pair = MakeSocketPair();
    inner_ = std::move(pair->first);
    tap_ = std::move(pair->second);
    EXPECT_TRUE(SetNonBlocking(inner_.get(), true).ok());
    int bytes = 4 << 20;
    setsockopt(inner_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    tls_ = context.NewSession(inner_.get(), "the destination");
    while (tls_->Handshake().value() != TlsNeed::kNothing) PassAll();
    PassAll();
  }

  void Send(std::span<const std::byte> bytes) {
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    EXPECT_EQ(tls_->Send({&part, 1}).bytes, bytes.size());
  }
  // Lets so many more bytes on.
  void Pass(size_t bytes) {
    std::vector<std::byte> passing(bytes);
    EXPECT_EQ(recv(tap_.get(), passing.data(), bytes, MSG_WAITALL), static_cast<ssize_t>(bytes));
    EXPECT_EQ(send(wire_.get(), passing.data(), bytes, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  }
  // Lets everything on, both ways, as far as it is there within a moment.
  void PassAll() {
    pollfd waits[2] = {{tap_.get(), POLLIN, 0}, {wire_.get(), POLLIN, 0}};
    poll(waits, 2, 200);
    for (int i : {0, 1}) {
      std::byte passing[65536];
      ssize_t got;
      while ((got = recv(waits[i].fd, passing, sizeof(passing), MSG_DONTWAIT)) > 0) {
        send(waits[1 - i].fd, passing, static_cast<size_t>(got), MSG_NOSIGNAL);
      }
    }
  }

 private:
  FileDescriptor wire_;
  FileDescriptor inner_;
  FileDescriptor tap_;
  std::unique_ptr<TlsSession> tls_;
};

class TlsRecordsTest : public BulkLaneFixture {
 protected:
  uint16_t port() { return static_cast<TcpWorld&>(*world_).port(); }
};
INSTANTIATE_TEST_SUITE_P(Tls, TlsRecordsTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>(TcpOptions{}, PskPair());
                         })));

// The receiver of a long run is woken only for much, and what is still missing of it may be less
// than that on the wire, because TLS holds a part of a record already.
TEST_P(TlsRecordsTest, AHalfRecordInTlsDoesNotHoldARunUp) {
  const TlsPair pair = PskPair();
  ExpectLanes();
  TappedPeer demand(port(), *pair.source);
  TappedPeer bulk(port(), *pair.source);
  demand.Send(BytesOf(HelloFor(ConnectionRole::kDemand)));
  bulk.Send(BytesOf(HelloFor(ConnectionRole::kBulk)));
  ASSERT_TRUE(world_->WaitUntil([&] {
    demand.PassAll();
    bulk.PassAll();
    return lanes_outcome().has_value();
  }));
  ASSERT_TRUE(lanes_outcome()->ok()) << *lanes_outcome();
  StartReceiver();
  const PageRun run{0, 2000, 64};  // 256 KiB: 16 records and a little
  bulk.Send(Join(BytesOf(PageFrame{PageFrameKind::kData, run}), memory_.View(run)));
  constexpr size_t kRecord = TlsSession::kRecordBytesMax + 22;
  // Of the run a little more than 64 KiB are missing, and TLS has all but a byte of a record that
  // counts for them.
  bulk.Pass(12 * kRecord + kRecord - 1);
  world_->Settle();
  bulk.PassAll();
  EXPECT_TRUE(world_->WaitUntil([&] { return notes_.runs().size() == 1; }));
}

class TlsStrangersTest : public TransportContract {
 protected:
  TcpWorld& world() { return static_cast<TcpWorld&>(*world_); }
};
INSTANTIATE_TEST_SUITE_P(Tls, TlsStrangersTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>(
                               TcpOptions{.hello_timeout_us = kHelloTimeoutUs}, CertificatePair());
                         })));

TEST_P(TlsStrangersTest, GarbageIsClosedWithoutAWord) {
  TcpRawPeer http(world().port());
  TcpRawPeer noise(world().port());
  http.Send(Text("GET / HTTP/1.1\r\n\r\n"));
  // A record of TLS, as its head says, and then nothing of the kind.
  noise.Send(Join({std::byte{0x16}, std::byte{3}, std::byte{1}, std::byte{0}, std::byte{64}},
                  std::vector<std::byte>(64, std::byte{0xee})));
  ASSERT_TRUE(world_->WaitUntil([&] { return http.Closed() && noise.Closed(); }));
  EXPECT_TRUE(http.Received().empty());
  EXPECT_TRUE(world().notices().empty());
  ConnectControl();
}

TEST_P(TlsStrangersTest, SilenceHalvesAndTricklesEndWithTheTime) {
  TcpRawPeer silent(world().port());
  TcpRawPeer half(world().port());
  TcpRawPeer trickle(world().port());
  const std::vector<std::byte> head = {std::byte{0x16}, std::byte{3}, std::byte{1}, std::byte{2},
                                       std::byte{0},    std::byte{1}, std::byte{0}};
  half.Send(head);
  for (int i = 0; i < 1000 && !trickle.Closed(); ++i) {
    trickle.Send(std::span(i < 7 ? head : std::vector<std::byte>(7)).subspan(i % 7, 1));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(trickle.Closed());
  ASSERT_TRUE(world_->WaitUntil([&] { return silent.Closed() && half.Closed(); }));
  EXPECT_TRUE(world().notices().empty());
  ConnectControl();
}

TEST_P(TlsStrangersTest, NoticesAreFew) {
  for (int i = 0; i < 30; ++i) {
    TcpRawPeer plain(world().port());
    plain.Send(BytesOf(HelloFor(ConnectionRole::kControl)));
    ASSERT_TRUE(world_->WaitUntil([&] { return plain.Closed(); }));
  }
  const std::vector<std::string> notices = world().notices();
  EXPECT_EQ(notices.size(), 9u);
  EXPECT_NE(notices.back().find("stay unsaid"), std::string::npos);
}

TEST_P(TlsStrangersTest, ALaneWithAnotherTokenIsTurnedDown) {
  OpenLanes();
  Hello hello = HelloFor(ConnectionRole::kBulk);
  hello.token[15] ^= 1;
  auto peer = world_->ConnectRaw(ConnectionRole::kBulk);
  peer->Send(BytesOf(hello));
  ASSERT_TRUE(world_->WaitUntil([&] { return peer->Closed(); }));
  auto answer = DecodeMessage(peer->Received());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(std::holds_alternative<PeerError>(answer->message));
}

// What lies in the same record as a Hello is in TLS's hands when the channel begins to watch, and
// the socket will never tell of it.
TEST_P(TlsStrangersTest, WhatCameWithAHelloIsNotForgotten) {
  auto peer = world_->ConnectRaw(ConnectionRole::kControl);
  peer->Send(Join(BytesOf(HelloFor(ConnectionRole::kControl)),
                  Join(BytesOf(Heartbeat{}), BytesOf(Progress{1, 2, 3}))));
  TakeArrived();
  world_->Settle();
  ChannelNotes notes;
  world_->RunOn(Place::kControl, [&] { channel_->Start(&notes); });
  EXPECT_TRUE(world_->WaitUntil([&] { return notes.messages().size() == 2; }));
  world_->RunOn(Place::kControl, [&] { channel_.reset(); });
}

TEST_P(TlsStrangersTest, BytesOnTheWireAreCountedWithTheirRecords) {
  ConnectControl();
  ChannelNotes notes;
  world_->RunOn(Place::kControl, [&] { channel_->Start(&notes); });
  const uint64_t before = world_->source().bytes_wire();
  EXPECT_GT(before, 500u) << "a handshake with certificates";
  const std::vector<std::byte> bytes = BytesOf(Progress{1, 2, 3});
  world_->RunOn(Place::kSourceControl, [&] { source_channel_->Send(Progress{1, 2, 3}); });
  ASSERT_TRUE(world_->WaitUntil([&] { return notes.messages().size() == 1; }));
  // A record's head, the kind within, and the tag.
  EXPECT_EQ(world_->source().bytes_wire() - before, bytes.size() + 5 + 1 + 16);
  world_->RunOn(Place::kControl, [&] { channel_.reset(); });
}

}  // namespace
}  // namespace faultline::contract
