// Both ends of the TCP transport on loopback, each with its three threads.
#ifndef FAULTLINE_TESTS_TRANSPORT_TCP_TCP_WORLD_H_
#define FAULTLINE_TESTS_TRANSPORT_TCP_TCP_WORLD_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "contract/transport_world.h"
#include "transport/tcp/tcp_destination_transport.h"
#include "transport/tcp/tcp_source_transport.h"
#include "transport/tcp/test_certificates.h"

namespace faultline::contract {

// A blocking socket that is connected to that port.
inline FileDescriptor ConnectTo(uint16_t port, const std::string& host = "127.0.0.1") {
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET, host.c_str(), &address.sin_addr), 1);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

// Whether this kernel has TLS of its own (tests/rdma has one).
inline bool KernelHasTls() {
  const FileDescriptor listener = ListenTcp({"127.0.0.1", 0}).value();
  const TcpUri uri = ParseTcpUri("tcp://" + LocalAddressOf(listener.get()).text()).value();
  const FileDescriptor calling = ConnectTo(uri.port);
  return setsockopt(calling.get(), IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls") - 1) == 0;
}

// A plain blocking socket.
class TcpRawPeer : public RawPeer {
 public:
  explicit TcpRawPeer(uint16_t port, const std::string& host = "127.0.0.1")
      : fd_(ConnectTo(port, host)) {}
  void Send(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // it was closed; the test looks at Closed
      bytes = bytes.subspan(static_cast<size_t>(sent));
    }
  }
  std::vector<std::byte> Received() override {
    Drain();
    return received_;
  }
  bool Closed() override {
    Drain();
    return closed_;
  }

 private:
  void Drain() {
    std::byte buffer[4096];
    ssize_t got;
    while (!closed_ && (got = recv(fd_.get(), buffer, sizeof(buffer), MSG_DONTWAIT)) >= 0) {
      if (got == 0) closed_ = true;
      received_.insert(received_.end(), buffer, buffer + got);
    }
    if (!closed_ && errno != EAGAIN) closed_ = true;
  }

  FileDescriptor fd_;
  std::vector<std::byte> received_;
  bool closed_ = false;
};

// The same in TLS, with the source's secrets.
class TlsRawPeer : public RawPeer {
 public:
  TlsRawPeer(uint16_t port, const TlsContext& context) : fd_(ConnectTo(port)) {
    EXPECT_TRUE(SetNonBlocking(fd_.get(), true).ok());
    tls_ = context.NewSession(fd_.get(), "the destination");
    while (true) {
      absl::StatusOr<TlsNeed> need = tls_->Handshake();
      EXPECT_TRUE(need.ok()) << need.status();
      if (!need.ok() || *need == TlsNeed::kNothing) break;
      WaitFor(*need);
    }
  }
  void Send(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
      Transfer transfer = tls_->Send({&part, 1});
      if (!transfer.status.ok()) return;  // it was closed; the test looks at Closed
      bytes = bytes.subspan(transfer.bytes);
      if (!bytes.empty()) WaitFor(tls_->send_need());
    }
  }
  std::vector<std::byte> Received() override {
    Drain();
    return received_;
  }
  bool Closed() override {
    Drain();
    return closed_;
  }

 private:
  void WaitFor(TlsNeed need) {
    pollfd wait{fd_.get(), static_cast<int16_t>(need == TlsNeed::kReadable ? POLLIN : POLLOUT), 0};
    poll(&wait, 1, 10'000);
  }
  void Drain() {
    std::byte buffer[4096];
    iovec part{buffer, sizeof(buffer)};
    while (!closed_) {
      Transfer transfer = tls_->Receive({&part, 1});
      received_.insert(received_.end(), buffer, buffer + transfer.bytes);
      if (!transfer.status.ok()) closed_ = true;
      if (transfer.bytes == 0) return;
    }
  }

  FileDescriptor fd_;
  std::unique_ptr<TlsSession> tls_;
  std::vector<std::byte> received_;
  bool closed_ = false;
};

// Gives each lane a token of its own, as one that listens on rdma:// does.
class OwnTokensDestination : public TcpDestinationTransport {
 public:
  using TcpDestinationTransport::TcpDestinationTransport;

 private:
  SessionToken LaneToken(ConnectionRole role) override { return {static_cast<uint8_t>(role)}; }
};

class TcpWorld : public TransportWorld {
 public:
  explicit TcpWorld(TcpOptions options = {}, TlsPair tls = {}, bool own_lane_tokens = false)
      : packs_(options.compression != Compression::kOff), tls_(std::move(tls)) {
    for (auto& loop : loops_) loop->StartThread();
    options.uri = {"127.0.0.1", 0};
    options.tls = tls_.destination;
    options.on_notice = [this](const std::string& text) {
      std::lock_guard lock(notices_mutex_);
      notices_.push_back(text);
    };
    RunOn(Place::kControl, [&] {
      const TcpLoops loops{loops_[3].get(), loops_[4].get(), loops_[5].get()};
      if (own_lane_tokens) {
        destination_ = std::make_unique<OwnTokensDestination>(options, loops);
      } else {
        destination_ = std::make_unique<TcpDestinationTransport>(options, loops);
      }
      absl::Status status =
          destination_->Listen([this](const Hello& hello, std::unique_ptr<ControlChannel> channel) {
            arrived_.emplace_back(hello, std::move(channel));
          });
      EXPECT_TRUE(status.ok()) << status;
      options.uri = ParseTcpUri(destination_->address()).value();
    });
    port_ = options.uri.port;
    options.tls = tls_.source;
    RunOn(Place::kSourceControl, [&] {
      source_ = std::make_unique<TcpSourceTransport>(
          options, TcpLoops{loops_[0].get(), loops_[1].get(), loops_[2].get()});
    });
  }

  // The documented order of teardown.
  ~TcpWorld() override {
    for (int loop : {1, 2, 4, 5}) loops_[loop]->Stop();
    for (int loop : {1, 2, 4, 5}) loops_[loop]->Join();
    RunOn(Place::kSourceControl, [&] { source_.reset(); });
    RunOn(Place::kControl, [&] {
      arrived_.clear();
      destination_.reset();
    });
  }

  TcpSourceTransport& source() override { return *source_; }
  TcpDestinationTransport& destination() override { return *destination_; }
  std::vector<std::pair<Hello, std::unique_ptr<ControlChannel>>>& arrived() override {
    return arrived_;
  }
  bool packs() const override { return packs_; }
  Loop& loop(Place place) { return *loops_[static_cast<size_t>(place)]; }
  uint16_t port() const { return port_; }
  // What the destination's user was told.
  std::vector<std::string> notices() {
    std::lock_guard lock(notices_mutex_);
    return notices_;
  }

  void RunOn(Place place, const std::function<void()>& task) override {
    std::promise<void> done;
    loop(place).Post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  bool WaitUntil(const std::function<bool()>& done) override {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  void Settle() override { std::this_thread::sleep_for(std::chrono::milliseconds(50)); }
  std::unique_ptr<RawPeer> ConnectRaw(ConnectionRole) override {
    if (tls_.source == nullptr) return std::make_unique<TcpRawPeer>(port_);
    return std::make_unique<TlsRawPeer>(port_, *tls_.source);
  }

 private:
  static std::unique_ptr<Loop> MakeLoop(const char* name) { return std::make_unique<Loop>(name); }

  const bool packs_;
  const TlsPair tls_;
  std::mutex notices_mutex_;
  std::vector<std::string> notices_;  // guarded by notices_mutex_
  std::unique_ptr<Loop> loops_[6] = {MakeLoop("src-control"), MakeLoop("src-demand"),
                                     MakeLoop("src-bulk"),    MakeLoop("dst-control"),
                                     MakeLoop("dst-demand"),  MakeLoop("dst-bulk")};
  std::vector<std::pair<Hello, std::unique_ptr<ControlChannel>>> arrived_;
  std::unique_ptr<TcpSourceTransport> source_;
  std::unique_ptr<TcpDestinationTransport> destination_;
  uint16_t port_ = 0;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_TRANSPORT_TCP_TCP_WORLD_H_
