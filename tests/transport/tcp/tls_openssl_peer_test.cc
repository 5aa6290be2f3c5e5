// OpenSSL's own client and server at the other end, which do what Faultline's never would.
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <thread>

#include "contract/transport_world.h"
#include "transport/tcp/tcp_socket.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

// A blocking end with what a test sets in its context; both ways a limit of 5 s.
class OpenSslEnd {
 public:
  OpenSslEnd(FileDescriptor fd, const SSL_METHOD* method)
      : fd_(std::move(fd)), context_(SSL_CTX_new(method)) {
    const timeval limit{5, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  }
  ~OpenSslEnd() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  OpenSslEnd(const OpenSslEnd&) = delete;
  OpenSslEnd& operator=(const OpenSslEnd&) = delete;

  SSL_CTX* context() { return context_; }
  SSL* ssl() { return ssl_; }
  void Show(const std::string& side) {
    const std::string begin = SharedCertificates().path() + "/" + side;
    EXPECT_EQ(
        SSL_CTX_use_certificate_file(context_, (begin + "-cert.pem").c_str(), SSL_FILETYPE_PEM), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context_, (begin + "-key.pem").c_str(), SSL_FILETYPE_PEM),
              1);
  }
  bool Shake(int (*handshake)(SSL*)) {
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd_.get());
    return handshake(ssl_) == 1;
  }
  void Send(std::span<const std::byte> bytes) {
    EXPECT_EQ(SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())),
              static_cast<int>(bytes.size()));
  }
  // Exactly so many bytes, or fewer at the end.
  std::vector<std::byte> Read(size_t bytes) {
    std::vector<std::byte> read(bytes);
    size_t filled = 0;
    int got = 0;
    while (filled < bytes &&
           (got = SSL_read(ssl_, read.data() + filled, static_cast<int>(bytes - filled))) > 0) {
      filled += static_cast<size_t>(got);
    }
    read.resize(filled);
    return read;
  }

 private:
  FileDescriptor fd_;
  SSL_CTX* const context_;
  SSL* ssl_ = nullptr;
};

class TlsOpenSslClientTest : public TransportContract {
 protected:
  TlsOpenSslClientTest() : client_(ConnectTo(world().port()), TLS_client_method()) {}
  TcpWorld& world() { return static_cast<TcpWorld&>(*world_); }
  // TLS 1.3 tells a client only in its first answer that its proof is refused.
  void ExpectRefused(std::initializer_list<const char*> words) {
    const std::byte byte{0};
    if (client_.Shake(SSL_connect)) client_.Send({&byte, 1});
    EXPECT_TRUE(client_.ssl() == nullptr || client_.Read(1).empty());
    ASSERT_TRUE(world_->WaitUntil([&] { return !world().notices().empty(); }));
    const std::string notice = world().notices().front();
    for (const char* word : words) EXPECT_NE(notice.find(word), std::string::npos) << notice;
    EXPECT_TRUE(world_->arrived().empty());
  }

  OpenSslEnd client_;
};
INSTANTIATE_TEST_SUITE_P(Tls, TlsOpenSslClientTest, ::testing::Values(WorldFactory([] {
                           return std::make_unique<TcpWorld>(TcpOptions{}, CertificatePair());
                         })));

TEST_P(TlsOpenSslClientTest, WithoutACertificateItIsRefused) {
  ExpectRefused({"127.0.0.1:", "shows no certificate", "--tls-dir"});
}

TEST_P(TlsOpenSslClientTest, WithTls12ItIsRefused) {
  client_.Show("client");
  SSL_CTX_set_max_proto_version(client_.context(), TLS1_2_VERSION);
  ExpectRefused({"127.0.0.1:", "no TLS 1.3"});
}

TEST_P(TlsOpenSslClientTest, WithACertificateOfAnotherAuthorityItIsRefused) {
  TestFolder folder;
  TestAuthority authority("another");
  authority.Write(folder, "client");
  SSL_CTX_use_certificate_file(client_.context(), folder.File("client-cert.pem").c_str(),
                               SSL_FILETYPE_PEM);
  SSL_CTX_use_PrivateKey_file(client_.context(), folder.File("client-key.pem").c_str(),
                              SSL_FILETYPE_PEM);
  ExpectRefused({"127.0.0.1:", "CN=test", "no authority in"});
}

// A peer may change its key at any time and ask for the same: the answer goes out while this side
// reads, and what follows comes under the new keys.
TEST_P(TlsOpenSslClientTest, ItMayAskForNewKeysAtAnyTime) {
  if (KernelHasTls()) GTEST_SKIP() << "the kernel keeps the keys that it was given";
  client_.Show("client");
  ASSERT_TRUE(client_.Shake(SSL_connect));
  const std::vector<std::byte> hello = BytesOf(HelloFor(ConnectionRole::kControl));
  client_.Send(std::span(hello).first(10));
  EXPECT_EQ(SSL_key_update(client_.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  client_.Send(std::span(hello).subspan(10));
  TakeArrived();
  ChannelNotes notes;
  world_->RunOn(Place::kControl, [&] { channel_->Start(&notes); });
  for (uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(SSL_key_update(client_.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
    client_.Send(BytesOf(Progress{i, 0, 0}));
    ASSERT_TRUE(world_->WaitUntil([&] { return notes.messages().size() == i + 1; }));
    world_->RunOn(Place::kControl, [&] { channel_->Send(Progress{i, 1, 1}); });
    const std::vector<std::byte> wanted = BytesOf(Progress{i, 1, 1});
    EXPECT_EQ(client_.Read(wanted.size()), wanted);
  }
  EXPECT_FALSE(notes.closed().has_value());
  world_->RunOn(Place::kControl, [&] { channel_.reset(); });
}

// Which no side of ours does. Nothing is sent that somebody else could read: the connection ends.
TEST_P(TlsOpenSslClientTest, AskingForNewKeysEndsAConnectionWhoseRecordsTheKernelMakes) {
  if (!KernelHasTls()) GTEST_SKIP() << "this kernel has no TLS";
  client_.Show("client");
  ASSERT_TRUE(client_.Shake(SSL_connect));
  client_.Send(BytesOf(HelloFor(ConnectionRole::kControl)));
  TakeArrived();
  ChannelNotes notes;
  world_->RunOn(Place::kControl, [&] { channel_->Start(&notes); });
  EXPECT_EQ(SSL_key_update(client_.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  client_.Send(BytesOf(Progress{1, 0, 0}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes.messages().size() == 1; }));
  world_->RunOn(Place::kControl, [&] { channel_->Send(Progress{1, 1, 1}); });
  EXPECT_TRUE(client_.Read(1).empty());
  ASSERT_TRUE(world_->WaitUntil([&] { return notes.closed().has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*notes.closed())) << *notes.closed();
  world_->RunOn(Place::kControl, [&] { channel_.reset(); });
}

// A server that hands out session tickets with its first words, as OpenSSL's does by itself.
TEST(TlsOpenSslServerTest, ItsTicketsAreNoMessages) {
  FileDescriptor listener = ListenTcp({"127.0.0.1", 0}).value();
  SetNonBlocking(listener.get(), false).IgnoreError();
  const TcpUri uri = ParseTcpUri("tcp://" + LocalAddressOf(listener.get()).text()).value();
  const std::vector<std::byte> answer = BytesOf(PeerError{PeerErrorCode::kBusy, "not now"});
  std::thread serving([&] {
    OpenSslEnd server(FileDescriptor(accept(listener.get(), nullptr, nullptr)),
                      TLS_server_method());
    server.Show("server");
    SSL_CTX_set_num_tickets(server.context(), 4);
    EXPECT_TRUE(server.Shake(SSL_accept));
    EXPECT_FALSE(server.Read(kMessageHeaderBytes).empty());
    server.Send(answer);
    SSL_shutdown(server.ssl());
  });
  Loop control("control"), demand("demand"), bulk("bulk");
  ChannelNotes notes;
  std::unique_ptr<ControlChannel> channel;
  TcpOptions options;
  options.uri = uri;
  options.tls = CertificatePair().source;
  TcpSourceTransport source(options, {&control, &demand, &bulk});
  std::unique_ptr<Timer> poll;
  std::function<void()> look = [&] {
    if (notes.closed().has_value()) {
      channel.reset();
      return control.Stop();
    }
    poll = control.RunAfter(2000, look);
  };
  control.Post([&] {
    source.Connect(Hello{}, 5'000'000, [&](auto connected) {
      EXPECT_TRUE(connected.ok()) << connected.status();
      if (!connected.ok()) return control.Stop();
      channel = std::move(*connected);
      channel->Start(&notes);
      look();
    });
  });
  control.Run();
  serving.join();
  ASSERT_EQ(notes.messages().size(), 1u);
  EXPECT_EQ(BytesOf(notes.messages()[0]), answer);
  EXPECT_TRUE(absl::IsUnavailable(*notes.closed())) << *notes.closed();
}

}  // namespace
}  // namespace faultline::contract
