// Bytes from a hook -> the engine's side of its protocol: header, HELLO, armed regions, refusals,
// and the map of addresses that is made of what was armed.
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "memory/address_map.h"
#include "memory/hook_replies.h"

namespace faultline {
namespace {

void CheckHeader(std::span<const uint8_t> message) {
  const absl::StatusOr<HookHeader> header = ParseReplyHeader(message);
  FAULTLINE_CHECK(header.ok() || !header.status().message().empty());
  if (!header.ok()) return;
  FAULTLINE_CHECK(header->magic == HOOK_MAGIC && header->length == message.size());
  if (header->status == kHookStatusOk) return;
  const std::vector<HookRegionRequest> names(2, {.name = "ram"});
  const absl::Status refusal = HookRefusal("/hook.sock", *header, names);
  FAULTLINE_CHECK(!refusal.ok());
  FAULTLINE_CHECK(MessageOf(refusal).find("/hook.sock") != std::string::npos);
}

void CheckHello(std::span<const uint8_t> payload) {
  const absl::StatusOr<HookInfo> info = ParseHelloReply(payload);
  if (!info.ok()) return;
  FAULTLINE_CHECK(info->version >= HOOK_VERSION_MIN && info->version <= HOOK_VERSION_MAX);
  FAULTLINE_CHECK(info->release.size() <= sizeof(HookHelloReply::release));
  for (char c : info->release) FAULTLINE_CHECK(isprint(static_cast<unsigned char>(c)) != 0);
}

// Addresses come from another process: a map of them never gives a page that is not there.
void CheckAddresses(const ArmedRegions& armed) {
  MemoryLayout layout;
  std::vector<uint64_t> addresses;
  for (const ArmedRegion& region : armed.regions) {
    layout.push_back(
        {std::to_string(layout.size()), region.region.size_bytes, region.region.page_size_bytes});
    addresses.push_back(region.host_address);
  }
  if (!ValidateLayout(layout).ok()) return;
  const absl::StatusOr<AddressMap> map = AddressMap::Make(layout, addresses);
  if (!map.ok()) return;
  for (RegionIndex region = 0; region < layout.size(); ++region) {
    const PageId last{region, layout[region].page_count() - 1};
    const uint64_t begin = map->AddressOf(last);
    FAULTLINE_CHECK(map->PageAt(begin) == last);
    FAULTLINE_CHECK(map->PageAt(begin + layout[region].page_size_bytes - 1) == last);
    FAULTLINE_CHECK(map->PageAt(addresses[region]) == (PageId{region, 0}));
    for (const PageRun& run : map->RunsIn(addresses[region] + 1, UINT64_MAX)) {
      FAULTLINE_CHECK(run.count > 0 && map->Contains(run));
    }
  }
}

void CheckRegions(std::span<const uint8_t> payload) {
  const absl::StatusOr<ArmedRegions> armed = ParseArmedRegions(payload);
  if (!armed.ok()) return;
  FAULTLINE_CHECK(armed->regions.size() <= HOOK_REGIONS_MAX);
  FAULTLINE_CHECK(payload.size() ==
                  sizeof(HookRegions) + armed->regions.size() * sizeof(HookArmedRegion));
  FAULTLINE_CHECK(!armed->uffd.valid() && !armed->page_state.valid());
  CheckAddresses(*armed);
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  const std::span<const uint8_t> message(data, size);
  CheckHeader(message);
  if (size < sizeof(HookHeader)) return 0;
  CheckHello(message.subspan(sizeof(HookHeader)));
  CheckRegions(message.subspan(sizeof(HookHeader)));
  return 0;
}
