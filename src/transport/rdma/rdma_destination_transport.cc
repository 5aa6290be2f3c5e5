#include "transport/rdma/rdma_destination_transport.h"

#include <sys/random.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "base/check.h"
#include "transport/rdma/rdma_greeting.h"
#include "transport/rdma/rdma_limits.h"
#include "transport/rdma/rdma_page_reader.h"
#include "transport/rdma/rdma_place.h"
#include "transport/rdma/rdma_push_receiver.h"

namespace faultline {
namespace {

constexpr uint32_t kDemandReadsMax = 32;
// Of huge pages there are fewer under way: they need room.
constexpr size_t kSlotBytesInAllMax = 16 * 1024 * 1024;

}  // namespace

RdmaDestinationTransport::RdmaDestinationTransport(RdmaOptions options, TcpLoops loops)
    : TcpDestinationTransport(options.tcp, loops), rdma_options_(std::move(options)) {}

RdmaDestinationTransport::~RdmaDestinationTransport() { DropLanes(); }

absl::Status RdmaDestinationTransport::Listen(Arrived arrived) {
  RETURN_IF_ERROR(TcpDestinationTransport::Listen(std::move(arrived)));
  SocketAddress first = listening_address();
  ASSIGN_OR_RETURN(TcpUri beside, ParseTcpUri(TcpDestinationTransport::address()));
  if (rdma_options_.uri.has_value()) {
    ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses,
                     RdmaAddressesOf(*rdma_options_.uri, beside));
    first = addresses.front();
    if (rdma_options_.uri->port != 0) beside.port = rdma_options_.uri->port;
  }
  RETURN_IF_ERROR(ListenOn(first));
  for (const TcpUri& rail : rdma_options_.rails) {
    ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses, RdmaAddressesOf(rail, beside));
    RETURN_IF_ERROR(ListenOn(addresses.front()));
  }
  return absl::OkStatus();
}

absl::Status RdmaDestinationTransport::ListenOn(const SocketAddress& address) {
  acceptors_.emplace_back(loops().control, rdma_options_.tuning, [this](const std::string& text) {
    if (rdma_options_.tcp.on_notice) rdma_options_.tcp.on_notice(text);
  });
  addresses_.push_back(address.text());
  return acceptors_.back().Listen(address);
}

std::string RdmaDestinationTransport::address() const {
  std::string all;
  for (const std::string& rail : addresses_) all += (all.empty() ? "rdma://" : ",rdma://") + rail;
  if (!all.empty()) return all;
  return "rdma" + TcpDestinationTransport::address().substr(std::string("tcp").size());
}

std::vector<RailFigures> RdmaDestinationTransport::rails() const {
  std::vector<RailFigures> figures;
  for (size_t rail = 0; rail < addresses_.size(); ++rail) {
    const uint64_t written = rail_bytes_->written[rail].load(std::memory_order_relaxed);
    const uint64_t read = rail_bytes_->read[rail].load(std::memory_order_relaxed);
    figures.push_back({addresses_[rail], read + written, written});
  }
  return figures;
}

void RdmaDestinationTransport::ExpectLanes(const LaneTerms& terms, int64_t timeout_us,
                                           LanesOpen done) {
  TcpDestinationTransport::ExpectLanes(terms, timeout_us, std::move(done));
  for (RdmaAcceptor& acceptor : acceptors_) {
    acceptor.Clear();  // after the ends that used its queue pairs
    acceptor.ListenAgain();
  }
}

SessionToken RdmaDestinationTransport::LaneToken(ConnectionRole) {
  // Never short for so few bytes (getrandom(2)).
  FAULTLINE_CHECK(getrandom(lane_token_.data(), lane_token_.size(), 0) ==
                  static_cast<ssize_t>(lane_token_.size()));
  return lane_token_;
}

void RdmaDestinationTransport::AwaitQueuePair(ConnectionRole role, size_t rail,
                                              const std::shared_ptr<RdmaLink>& link) {
  const bool is_demand = role == ConnectionRole::kDemand;
  const MemoryLayout& layout = terms().layout;
  const size_t slot_bytes = is_demand ? RdmaPageBytes(layout) : RdmaBulkSlotBytes(layout);
  std::next(acceptors_.begin(), static_cast<ptrdiff_t>(rail))
      ->Await({.role = role,
               .token = RailToken(lane_token_, terms().token, rail),
               .link = link,
               .executor = is_demand ? loops().demand : loops().bulk,
               .reads_max = static_cast<uint32_t>(
                   std::min<size_t>(is_demand ? kDemandReadsMax : kRdmaRunsUnderWayMax,
                                    kSlotBytesInAllMax / slot_bytes)),
               .slot_bytes = slot_bytes,
               .rails = static_cast<uint8_t>(acceptors_.size())});
}

std::unique_ptr<PageReader> RdmaDestinationTransport::MakeReader(TcpConnection connection) {
  WireCounter counter = Counter(&WireCounters::demand);
  auto tcp =
      std::make_unique<TcpPageReader>(loops().demand, std::move(connection), counter, terms());
  const auto link = std::make_shared<RdmaLink>();
  for (size_t rail = 0; rail < acceptors_.size(); ++rail) {
    AwaitQueuePair(ConnectionRole::kDemand, rail, link);
  }
  return std::make_unique<RdmaPageReader>(loops().demand, std::move(tcp), link, counter, terms(),
                                          rdma_options_.poll_us * 1000);
}

std::unique_ptr<PushReceiver> RdmaDestinationTransport::MakeReceiver(TcpConnection connection) {
  std::vector<std::shared_ptr<RdmaLink>> links;
  for (size_t rail = 0; rail < acceptors_.size(); ++rail) {
    links.push_back(std::make_shared<RdmaLink>());
    AwaitQueuePair(ConnectionRole::kBulk, rail, links.back());
  }
  return std::make_unique<RdmaPushReceiver>(loops().bulk, std::move(connection), links, rail_bytes_,
                                            Counter(&WireCounters::bulk), terms());
}

}  // namespace faultline
