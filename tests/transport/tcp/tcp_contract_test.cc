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

WorldFactory InTls(Compression compression, const std::function<TlsPair()>& pair) {
  return [compression, pair] {
    return std::make_unique<TcpWorld>(TcpOptions{.compression = compression}, pair());
  };
}

TlsPair WithCertificates() { return CertificatePair(); }
// The key changes in the middle of everything.
TlsPair WithShortKeys() { return CertificatePair(/*records_per_key=*/3); }

const auto kWorlds = ::testing::Values(Packing(Compression::kAuto));
const auto kBulkWorlds = ::testing::Values(Packing(Compression::kOff), Packing(Compression::kAuto),
                                           Packing(Compression::kLz4), Packing(Compression::kZstd));
const auto kTlsWorlds =
    ::testing::Values(InTls(Compression::kAuto, WithCertificates),
                      InTls(Compression::kOff, WithShortKeys), InTls(Compression::kAuto, PskPair));
const auto kTlsBulkWorlds = ::testing::Values(
    InTls(Compression::kOff, WithCertificates), InTls(Compression::kOff, WithShortKeys),
    InTls(Compression::kLz4, WithCertificates), InTls(Compression::kAuto, PskPair));

INSTANTIATE_TEST_SUITE_P(Tcp, ControlChannelContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Tcp, DemandLaneContract, kWorlds);
INSTANTIATE_TEST_SUITE_P(Tcp, BulkLaneContract, kBulkWorlds);
INSTANTIATE_TEST_SUITE_P(Tls, ControlChannelContract, kTlsWorlds);
INSTANTIATE_TEST_SUITE_P(Tls, DemandLaneContract, kTlsWorlds);
INSTANTIATE_TEST_SUITE_P(Tls, BulkLaneContract, kTlsBulkWorlds);

}  // namespace
}  // namespace faultline::contract
