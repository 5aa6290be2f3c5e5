// A source of the test's own: raw connections beside, and queue pairs that are real.
#ifndef FAULTLINE_TESTS_TRANSPORT_RDMA_RAW_SOURCE_H_
#define FAULTLINE_TESTS_TRANSPORT_RDMA_RAW_SOURCE_H_

#include <fcntl.h>
#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include "base/file_descriptor.h"
#include "transport/rdma/rdma_dialer.h"
#include "transport/rdma/rdma_greeting.h"
#include "transport/rdma/rdma_world.h"
#include "transport/rdma/registered_memory.h"

namespace faultline::contract {

class RawSourceTest : public TransportContract {
 protected:
  RdmaWorld& world() { return static_cast<RdmaWorld&>(*world_); }

  void MakeEvents() {
    world_->RunOn(Place::kSourceControl, [&] {
      events_ = RdmaEvents::Make(&world().loop(Place::kSourceControl), [](const auto&) {}).value();
    });
  }

  // Of a lane that has joined.
  static SessionToken TokenOf(RawPeer& peer) {
    return std::get<Welcome>(DecodeMessage(peer.Received()).value().message).token;
  }

  // Connects a queue pair to the destination, or to whoever listens on that port, showing `token`.
  absl::Status Connect(ConnectionRole role, const SessionToken& token,
                       const RdmaTuning& tuning = {}, std::optional<uint16_t> port = {}) {
    std::mutex mutex;
    std::optional<absl::Status> outcome;
    world_->RunOn(Place::kSourceControl, [&] {
      SocketAddress peer =
          ResolveTcp({RdmaHost(), port.value_or(world().port())}, /*numeric_only=*/true)
              .value()
              .front();
      auto done = [&](absl::StatusOr<std::unique_ptr<RdmaConnection>> connection) {
        std::lock_guard lock(mutex);
        outcome = connection.status();
        if (connection.ok()) connections_.push_back(std::move(*connection));
      };
      dialers_.push_back(std::make_unique<RdmaDialer>(
          events_.get(),
          RdmaDialer::Target{
              .local = peer, .peer = peer, .role = role, .token = token, .tuning = tuning},
          [this](const rdma_cm_id& id) { return DomainOf(id); }, done, [](auto) {}));
      ASSERT_TRUE(dialers_.back()->Start(5000).ok());
    });
    EXPECT_TRUE(world_->WaitUntil([&] {
      std::lock_guard lock(mutex);
      return outcome.has_value();
    }));
    return *outcome;
  }

  // The VM's memory, once something is connected.
  void Register() {
    registered_ = RegisteredMemory::Make(domain_, &memory_, 0, page_tables_.get()).value();
    while (registered_->RegisterSome().value()) {
    }
  }

  // Source's control thread.
  absl::StatusOr<std::shared_ptr<RdmaDomain>> DomainOf(const rdma_cm_id& id) {
    if (domain_ != nullptr) return domain_;
    auto made = RdmaDomain::MakeBeside(id, events_.get(), &world().loop(Place::kSourceControl),
                                       [](auto) {});
    if (!made.ok()) return made.status();
    domain_ = std::move(*made);
    return domain_;
  }

  void TearDown() override {
    world_->RunOn(Place::kSourceControl, [&] {
      connections_.clear();
      dialers_.clear();
      registered_.reset();
      domain_.reset();
      events_.reset();
    });
    TransportContract::TearDown();
  }

  const FileDescriptor page_tables_{open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
  std::unique_ptr<RdmaEvents> events_;
  std::shared_ptr<RdmaDomain> domain_;
  std::shared_ptr<RegisteredMemory> registered_;
  std::vector<std::unique_ptr<RdmaDialer>> dialers_;
  std::vector<std::unique_ptr<RdmaConnection>> connections_;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_TRANSPORT_RDMA_RAW_SOURCE_H_
