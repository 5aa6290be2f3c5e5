// Bytes from a client of the hook -> HookParseRequest. What it accepts must be what it says it
// checks.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "hook/request_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static HookRequest request;
  uint64_t detail = 0;
  HookStatus status = HookParseRequest(data, size, &request, &detail);
  if (status != kHookStatusOk) {
    FAULTLINE_CHECK(status == kHookStatusBadRequest || status == kHookStatusUnsupported);
    return 0;
  }
  FAULTLINE_CHECK(request.header.magic == HOOK_MAGIC);
  FAULTLINE_CHECK(request.header.length == size);
  FAULTLINE_CHECK(size <= HOOK_REQUEST_BYTES_MAX || request.header.type == kHookTypeHello);
  FAULTLINE_CHECK(request.arm.region_count <= HOOK_REGIONS_MAX);
  for (uint32_t i = 0; i < request.arm.region_count; ++i) {
    const HookRegion& region = request.regions[i];
    FAULTLINE_CHECK(region.size > 0 && region.page_size > 0);
    FAULTLINE_CHECK(region.size % region.page_size == 0);
    FAULTLINE_CHECK(region.file_offset % region.page_size == 0);
    FAULTLINE_CHECK(region.file_offset + region.size <= uint64_t{INT64_MAX});
  }
  return 0;
}
