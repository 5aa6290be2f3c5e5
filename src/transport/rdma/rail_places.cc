#include "transport/rdma/rail_places.h"

#include <algorithm>

namespace faultline {

std::optional<RemotePlace> RailPlaces::On(uint16_t rail) const {
  const auto places = all();
  const auto found = std::ranges::find(places, rail, &RemotePlace::rail);
  return found == places.end() ? std::nullopt : std::optional(*found);
}

RailBeginning BeginningOnRails(std::span<const RailReadable> rails, const PageRun& run) {
  RailBeginning beginning{.pages = run.count, .places = {}};
  for (const RailReadable& rail : rails) {
    const ReadablePages::Beginning here = rail.pages->BeginningOf(run);
    if (!here.place.has_value()) return {.pages = here.pages, .places = {}};
    beginning.pages = std::min(beginning.pages, here.pages);
    beginning.places.Add({here.place->address, here.place->key, rail.rail});
  }
  return beginning;
}

}  // namespace faultline
