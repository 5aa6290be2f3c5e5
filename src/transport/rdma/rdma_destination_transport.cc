#include "transport/rdma/rdma_destination_transport.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/rdma/rdma_page_reader.h"
#include "transport/rdma/rdma_place.h"
#include "transport/rdma/rdma_push_lane.h"
#include "transport/rdma/rdma_push_receiver.h"

namespace faultline {
namespace {

constexpr uint32_t kDemandReadsMax = 32;
// 1 MiB under way, which devices share out packet by packet with the demand READs.
constexpr uint32_t kBulkReadsMax = 4;
// Of huge pages there are fewer under way: they need room.
constexpr size_t kSlotBytesInAllMax = 16 * 1024 * 1024;

// The largest page that is read.
size_t PageBytes(const MemoryLayout& layout) {
  uint64_t bytes = 4096;
  for (const RegionLayout& region : layout) {
    if (region.page_size_bytes > kRdmaPageBytesMax) continue;
    bytes = std::max(bytes, region.page_size_bytes);
  }
  return bytes;
}

}  // namespace

RdmaDestinationTransport::RdmaDestinationTransport(RdmaOptions options, TcpLoops loops)
    : TcpDestinationTransport(options.tcp, loops),
      rdma_options_(std::move(options)),
      acceptor_(loops.control, rdma_options_.tuning, [this](const std::string& text) {
        if (rdma_options_.tcp.on_notice) rdma_options_.tcp.on_notice(text);
      }) {}

RdmaDestinationTransport::~RdmaDestinationTransport() { DropLanes(); }

absl::Status RdmaDestinationTransport::Listen(Arrived arrived) {
  RETURN_IF_ERROR(TcpDestinationTransport::Listen(std::move(arrived)));
  if (!rdma_options_.uri.has_value()) return acceptor_.Listen(listening_address());
  ASSIGN_OR_RETURN(const TcpUri beside, ParseTcpUri(TcpDestinationTransport::address()));
  ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses,
                   RdmaAddressesOf(*rdma_options_.uri, beside));
  rdma_address_ = addresses.front().text();
  return acceptor_.Listen(addresses.front());
}

std::string RdmaDestinationTransport::address() const {
  const std::string beside = TcpDestinationTransport::address();
  if (rdma_options_.uri.has_value()) return "rdma://" + rdma_address_;
  return "rdma" + beside.substr(std::string("tcp").size());
}

void RdmaDestinationTransport::ExpectLanes(const LaneTerms& terms, int64_t timeout_us,
                                           LanesOpen done) {
  TcpDestinationTransport::ExpectLanes(terms, timeout_us, std::move(done));
  acceptor_.Clear();  // after the ends that used the queue pairs
}

SessionToken RdmaDestinationTransport::LaneToken(ConnectionRole) {
  // Never short for so few bytes (getrandom(2)).
  FAULTLINE_CHECK(getrandom(lane_token_.data(), lane_token_.size(), 0) ==
                  static_cast<ssize_t>(lane_token_.size()));
  return lane_token_;
}

std::shared_ptr<RdmaLink> RdmaDestinationTransport::AwaitQueuePair(ConnectionRole role) {
  const bool is_demand = role == ConnectionRole::kDemand;
  const size_t page_bytes = PageBytes(terms().layout);
  const size_t slot_bytes = is_demand ? page_bytes : std::max<size_t>(page_bytes, kRdmaRunBytesMax);
  auto link = std::make_shared<RdmaLink>();
  acceptor_.Await(
      {.role = role,
       .token = lane_token_,
       .link = link,
       .executor = is_demand ? loops().demand : loops().bulk,
       .reads_max = static_cast<uint32_t>(std::min<size_t>(
           is_demand ? kDemandReadsMax : kBulkReadsMax, kSlotBytesInAllMax / slot_bytes)),
       .slot_bytes = slot_bytes});
  return link;
}

std::unique_ptr<PageReader> RdmaDestinationTransport::MakeReader(TcpConnection connection) {
  WireCounter counter = Counter(&WireCounters::demand);
  auto tcp =
      std::make_unique<TcpPageReader>(loops().demand, std::move(connection), counter, terms());
  return std::make_unique<RdmaPageReader>(loops().demand, std::move(tcp),
                                          AwaitQueuePair(ConnectionRole::kDemand), counter, terms(),
                                          rdma_options_.poll_us * 1000);
}

std::unique_ptr<PushReceiver> RdmaDestinationTransport::MakeReceiver(TcpConnection connection) {
  return std::make_unique<RdmaPushReceiver>(loops().bulk, std::move(connection),
                                            AwaitQueuePair(ConnectionRole::kBulk),
                                            Counter(&WireCounters::bulk), terms());
}

}  // namespace faultline
