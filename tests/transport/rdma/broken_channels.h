// Channels of events that break, and a poller that runs when the test says so.
#ifndef FAULTLINE_TESTS_TRANSPORT_RDMA_BROKEN_CHANNELS_H_
#define FAULTLINE_TESTS_TRANSPORT_RDMA_BROKEN_CHANNELS_H_

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "seams/fd_poller.h"
#include "transport/rdma/rdma_events.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline::contract {

// Keeps the one task that it is given, for the test to run.
class HeldPoller : public FdPoller {
 public:
  std::unique_ptr<FdWatch> WatchReadable(int fd, Task task) override {
    fd_ = fd;
    task_ = std::move(task);
    watched_ = true;
    return std::make_unique<Watch>(this);
  }
  void Run() { task_(); }
  bool watched() const { return watched_; }
  int fd() const { return fd_; }  // the last one that was watched

 private:
  struct Watch : FdWatch {
    explicit Watch(HeldPoller* of) : poller(of) {}
    ~Watch() override { poller->watched_ = false; }
    HeldPoller* const poller;
  };
  int fd_ = -1;
  Task task_;
  bool watched_ = false;
};

// As long as this lives nothing can be read from `fd`; the library uses it on afterwards.
class BrokenDescriptor {
 public:
  explicit BrokenDescriptor(int fd) : fd_(fd), kept_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
    std::signal(SIGPIPE, SIG_IGN);
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC), 0);
    close(ends[0]);
    EXPECT_GE(dup2(ends[1], fd), 0);
    close(ends[1]);
  }
  ~BrokenDescriptor() { EXPECT_GE(dup2(kept_.get(), fd_), 0); }
  BrokenDescriptor(const BrokenDescriptor&) = delete;
  BrokenDescriptor& operator=(const BrokenDescriptor&) = delete;

 private:
  const int fd_;
  const FileDescriptor kept_;
};

// One more address of a device whose network device is `interface` (tests/rdma/init.sh), of which
// the device tells.
class SecondAddress {
 public:
  static constexpr char kText[] = "10.9.0.77";
  explicit SecondAddress(const std::string& interface = "dummy0", const char* text = kText) {
    (interface + ":7").copy(request_.ifr_name, IFNAMSIZ - 1);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    EXPECT_EQ(inet_pton(AF_INET, text, &address.sin_addr), 1);
    std::memcpy(&request_.ifr_addr, &address, sizeof(address));
    EXPECT_EQ(ioctl(socket_.get(), SIOCSIFADDR, &request_), 0);
  }
  ~SecondAddress() {
    request_.ifr_flags = 0;
    EXPECT_EQ(ioctl(socket_.get(), SIOCSIFFLAGS, &request_), 0);
  }
  SecondAddress(const SecondAddress&) = delete;
  SecondAddress& operator=(const SecondAddress&) = delete;

 private:
  const FileDescriptor socket_{socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request_{};
};

// The device that has an address, as everybody in this process shares it.
class SharedDevice {
 public:
  explicit SharedDevice(const std::string& host) {
    SocketAddress address = ResolveTcp({host, 0}, /*numeric_only=*/true).value().front();
    EXPECT_EQ(rdma_bind_addr(id_.get(), reinterpret_cast<sockaddr*>(&address.storage)), 0);
  }
  int events_fd() const { return id_->verbs->async_fd; }
  // So that who opens it next does not hear of its past.
  void ForgetEvents() {
    ibv_async_event event;
    while (ibv_get_async_event(id_->verbs, &event) == 0) ibv_ack_async_event(&event);
  }

 private:
  HeldPoller poller_;
  const std::unique_ptr<RdmaEvents> events_ =
      RdmaEvents::Make(&poller_, [](const absl::Status&) {}).value();
  const RdmaId id_ = events_->MakeId(nullptr).value();
};

// This process's descriptors of the connection manager, in the order in which they were made.
inline std::vector<int> ConnectionManagers() {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (read_symlink(entry.path(), gone) != "/dev/infiniband/rdma_cm") continue;
    found.push_back(std::stoi(entry.path().filename()));
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_TRANSPORT_RDMA_BROKEN_CHANNELS_H_
