// Both ends of the RDMA transport on one device, each with its three threads.
#ifndef FAULTLINE_TESTS_TRANSPORT_RDMA_RDMA_WORLD_H_
#define FAULTLINE_TESTS_TRANSPORT_RDMA_RDMA_WORLD_H_

#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "contract/transport_world.h"
#include "transport/rdma/rdma_destination_transport.h"
#include "transport/rdma/rdma_source_transport.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {

// An address of an RDMA device of this host's (tests/rdma/init.sh makes one with this).
inline std::string RdmaHost() {
  const char* host = std::getenv("FAULTLINE_RDMA_HOST");
  return host != nullptr ? host : "10.9.0.1";
}

// An address of the second device's.
inline std::string OtherRdmaHost() {
  const char* host = std::getenv("FAULTLINE_RDMA_OTHER_HOST");
  return host != nullptr ? host : "10.9.1.1";
}

class RdmaWorld : public TransportWorld {
 public:
  // Both sides have the same options, but for the rails.
  explicit RdmaWorld(RdmaOptions options = {}) : RdmaWorld(options, options.rails) {}
  RdmaWorld(RdmaOptions options, std::vector<TcpUri> source_rails) : bulk_(options.tuning.bulk) {
    for (auto& loop : loops_) loop->StartThread();
    options.tcp.uri = {options.uri.has_value() ? "127.0.0.1" : RdmaHost(), 0};
    options.tcp.on_notice = [this](const std::string& text) {
      std::lock_guard lock(notices_mutex_);
      notices_.push_back(text);
    };
    RunOn(Place::kControl, [&] {
      destination_ = std::make_unique<RdmaDestinationTransport>(
          options, TcpLoops{loops_[3].get(), loops_[4].get(), loops_[5].get()});
      absl::Status status =
          destination_->Listen([this](const Hello& hello, std::unique_ptr<ControlChannel> channel) {
            arrived_.emplace_back(hello, std::move(channel));
          });
      EXPECT_TRUE(status.ok()) << status;
      options.tcp.uri = ParseTcpUri(destination_->TcpDestinationTransport::address()).value();
      options.rails = std::move(source_rails);
    });
    port_ = options.tcp.uri.port;
    RunOn(Place::kSourceControl, [&] {
      source_ = std::make_unique<RdmaSourceTransport>(
          options, TcpLoops{loops_[0].get(), loops_[1].get(), loops_[2].get()});
    });
  }

  // The documented order of teardown.
  ~RdmaWorld() override {
    for (int loop : {1, 2, 4, 5}) loops_[loop]->Stop();
    for (int loop : {1, 2, 4, 5}) loops_[loop]->Join();
    RunOn(Place::kSourceControl, [&] { source_.reset(); });
    RunOn(Place::kControl, [&] {
      arrived_.clear();
      destination_.reset();
    });
  }

  RdmaSourceTransport& source() override { return *source_; }
  RdmaDestinationTransport& destination() override { return *destination_; }
  std::vector<std::pair<Hello, std::unique_ptr<ControlChannel>>>& arrived() override {
    return arrived_;
  }
  bool source_sees_demands() const override { return false; }
  uint16_t port() const { return port_; }
  RdmaBulk bulk() const { return bulk_; }  // how the push goes
  Loop& loop(Place place) { return *loops_[static_cast<size_t>(place)]; }
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
  // On the connection beside, which says all that a lane says but what is read.
  std::unique_ptr<RawPeer> ConnectRaw(ConnectionRole) override {
    return std::make_unique<TcpRawPeer>(port_, RdmaHost());
  }

 private:
  static std::unique_ptr<Loop> MakeLoop(const char* name) { return std::make_unique<Loop>(name); }

  const RdmaBulk bulk_;
  std::mutex notices_mutex_;
  std::vector<std::string> notices_;  // guarded by notices_mutex_
  std::unique_ptr<Loop> loops_[6] = {MakeLoop("src-control"), MakeLoop("src-demand"),
                                     MakeLoop("src-bulk"),    MakeLoop("dst-control"),
                                     MakeLoop("dst-demand"),  MakeLoop("dst-bulk")};
  std::vector<std::pair<Hello, std::unique_ptr<ControlChannel>>> arrived_;
  std::unique_ptr<RdmaSourceTransport> source_;
  std::unique_ptr<RdmaDestinationTransport> destination_;
  uint16_t port_ = 0;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_TRANSPORT_RDMA_RDMA_WORLD_H_
