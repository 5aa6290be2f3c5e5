// TCP held to the transport contract, over real sockets and threads.
#include <gtest/gtest.h>

#include "contract/bulk_lane_contract.h"
#include "contract/control_channel_contract.h"
#include "contract/demand_lane_contract.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

const auto kWorlds = ::testing::Values(WorldFactory([] { return std::make_unique<TcpWorld>(); }));

INSTANTIATE_TEST_SUITE_P(Tcp, ControlChannelContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Tcp, DemandLaneContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Tcp, BulkLaneContract, kWorlds);

}  // namespace
}  // namespace faultline::contract
