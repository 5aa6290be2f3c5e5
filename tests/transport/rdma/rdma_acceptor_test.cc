// A destination whose RDMA has died listens anew. Runs where rdma_contract_test does.
#include "transport/rdma/rdma_acceptor.h"

#include <gtest/gtest.h>

#include <chrono>

#include "transport/rdma/broken_channels.h"
#include "transport/rdma/caller.h"
#include "transport/rdma/rdma_world.h"

namespace faultline::contract {
namespace {

// The destination hears of no connection while its events cannot be read.
TEST(RdmaAcceptorTest, ListensAnewOnceTheConnectionManagerHasGone) {
  HeldPoller control;
  std::vector<std::string> notices;
  RdmaAcceptor acceptor(&control, {}, [&](const std::string& text) { notices.push_back(text); });
  const SocketAddress address =
      ResolveTcp({RdmaHost(), 4711}, /*numeric_only=*/true).value().front();
  ASSERT_TRUE(acceptor.Listen(address).ok());
  {
    const BrokenDescriptor broken(control.fd());
    control.Run();
  }
  EXPECT_EQ(notices.size(), 1u);
  ASSERT_FALSE(control.watched());
  acceptor.Clear();
  acceptor.ListenAgain();
  ASSERT_TRUE(control.watched());
  HeldPoller callers;
  const auto events = RdmaEvents::Make(&callers, [](const absl::Status&) {}).value();
  const Caller caller(events.get(), address, RdmaGreeting{});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!caller.answer().has_value() && std::chrono::steady_clock::now() < deadline) {
    control.Run();
    callers.Run();
  }
  EXPECT_EQ(caller.answer(), RDMA_CM_EVENT_REJECTED);
}

TEST(RdmaAcceptorTest, ThatItCannotListenAnewIsSaidOnce) {
  HeldPoller control;
  std::vector<std::string> notices;
  RdmaAcceptor acceptor(&control, {}, [&](const std::string& text) { notices.push_back(text); });
  auto address = std::make_unique<SecondAddress>();
  const SocketAddress there =
      ResolveTcp({SecondAddress::kText, 4711}, /*numeric_only=*/true).value().front();
  // The kernel tells the device of its new address when it comes to it.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!acceptor.Listen(there).ok() && std::chrono::steady_clock::now() < deadline) {
  }
  {
    const BrokenDescriptor broken(control.fd());
    control.Run();
  }
  ASSERT_EQ(notices.size(), 1u);
  address.reset();
  for (int i = 0; i < 2; ++i) {
    acceptor.Clear();
    acceptor.ListenAgain();
    ASSERT_EQ(notices.size(), 2u);
  }
  for (const std::string word : {"no RDMA on 10.9.0.77:4711", "no RDMA device has that address"}) {
    EXPECT_NE(notices[1].find(word), std::string::npos) << notices[1];
  }
}

class RdmaListensAgainTest : public TransportContract {};
INSTANTIATE_TEST_SUITE_P(Rdma, RdmaListensAgainTest,
                         ::testing::Values([] { return std::make_unique<RdmaWorld>(); }));

TEST_P(RdmaListensAgainTest, TheNextLanesHaveTheirQueuePairs) {
  auto& world = static_cast<RdmaWorld&>(*world_);
  const std::vector<int> descriptors = ConnectionManagers();
  ASSERT_EQ(descriptors.size(), 1u) << "the source has made its own already";
  HeldPoller callers;
  const auto events = RdmaEvents::Make(&callers, [](const absl::Status&) {}).value();
  std::optional<Caller> caller;
  {
    const BrokenDescriptor broken(descriptors.front());
    caller.emplace(events.get(),
                   ResolveTcp({RdmaHost(), world.port()}, /*numeric_only=*/true).value().front(),
                   RdmaGreeting{});
    ASSERT_TRUE(world_->WaitUntil([&] {
      callers.Run();
      return !world.notices().empty();
    }));
  }
  OpenLanes();
}

}  // namespace
}  // namespace faultline::contract
