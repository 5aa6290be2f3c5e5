// A source of RDMA whose destination listens on tcp://. Needs no device.
#include <gtest/gtest.h>

#include "transport/rdma/rdma_source_transport.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

class RdmaSourceOfTcpTest : public TransportContract {};
INSTANTIATE_TEST_SUITE_P(Tcp, RdmaSourceOfTcpTest,
                         ::testing::Values([] { return std::make_unique<TcpWorld>(); }));

TEST_P(RdmaSourceOfTcpTest, ADestinationOnTcpIsNamedBeforeTheHandover) {
  auto& world = static_cast<TcpWorld&>(*world_);
  ExpectLanes();
  std::mutex mutex;
  std::optional<absl::Status> outcome;
  std::unique_ptr<RdmaSourceTransport> source;
  world.RunOn(Place::kSourceControl, [&] {
    source = std::make_unique<RdmaSourceTransport>(
        RdmaOptions{.tcp = {.uri = {"127.0.0.1", world.port()}}},
        TcpLoops{&world.loop(Place::kSourceControl), &world.loop(Place::kSourceDemand),
                 &world.loop(Place::kSourceBulk)});
    source->OpenLanes(TermsWith(kToken), kTimeoutUs, [&](auto lanes) {
      std::lock_guard lock(mutex);
      outcome = lanes.status();
    });
  });
  ASSERT_TRUE(world.WaitUntil([&] {
    std::lock_guard lock(mutex);
    return outcome.has_value();
  }));
  EXPECT_TRUE(absl::IsFailedPrecondition(*outcome)) << *outcome;
  EXPECT_NE(MessageOf(*outcome).find("the destination listens on tcp://"), std::string::npos)
      << *outcome;
  world.RunOn(Place::kSourceControl, [&] { source.reset(); });
}

}  // namespace
}  // namespace faultline::contract
