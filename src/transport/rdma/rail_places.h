// Where a run of the source's can be read on every rail of a lane. Pure.
#ifndef FAULTLINE_TRANSPORT_RDMA_RAIL_PLACES_H_
#define FAULTLINE_TRANSPORT_RDMA_RAIL_PLACES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "pages/page_types.h"
#include "protocol/messages.h"
#include "transport/rdma/readable_pages.h"

namespace faultline {

// Addresses that one rdma:// may name.
inline constexpr size_t kRdmaRailsMax = 8;

// The same pages' places, each on another rail.
class RailPlaces {
 public:
  // There must be fewer than kRdmaRailsMax.
  void Add(const RemotePlace& place) { places_[count_++] = place; }
  std::span<const RemotePlace> all() const { return {places_.data(), count_}; }
  bool empty() const { return count_ == 0; }
  std::optional<RemotePlace> On(uint16_t rail) const;

 private:
  std::array<RemotePlace, kRdmaRailsMax> places_{};
  size_t count_ = 0;
};

// One rail's number and what can be read there.
struct RailReadable {
  uint16_t rail = 0;
  const ReadablePages* pages = nullptr;
};

// How many of the first pages of `run` lie in one stretch on each of `rails`, and where; without
// places: how many are not readable on one of them or another.
struct RailBeginning {
  uint64_t pages = 0;
  RailPlaces places;
};
RailBeginning BeginningOnRails(std::span<const RailReadable> rails, const PageRun& run);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RAIL_PLACES_H_
