// TCP held to the transport contract, over real sockets and threads.
#include <gtest/gtest.h>

#include "contract/bulk_lane_contract.h"
#include "contract/control_channel_contract.h"
#include "contract/demand_lane_contract.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

WorldFactory Packing(Compression compression) {
  return
      [compression] { return std::make_unique<TcpWorld>(TcpOptions{.compression = compression}); };
}

const auto kWorlds = ::testing::Values(Packing(Compression::kAuto));
const auto kBulkWorlds = ::testing::Values(Packing(Compression::kOff), Packing(Compression::kAuto),
                                           Packing(Compression::kLz4), Packing(Compression::kZstd));

INSTANTIATE_TEST_SUITE_P(Tcp, ControlChannelContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Tcp, DemandLaneContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Tcp, BulkLaneContract, kBulkWorlds);

}  // namespace
}  // namespace faultline::contract
