#include "hook/request_parser.h"

#include <stdbool.h>
#include <string.h>

enum {
  kPageSizeMin = 4096,
  kPayload = sizeof(struct HookHeader),
  kArmRegions = sizeof(struct HookHeader) + sizeof(struct HookArm),
};
// File offsets are off_t in the kernel.
static const uint64_t kFileEndMax = INT64_MAX;
static const uint64_t kPageSizeMax = (uint64_t)1 << 40;

static enum HookStatus Bad(uint64_t* detail, size_t offset) {
  *detail = offset;
  return kHookStatusBadRequest;
}

static enum HookStatus ParseHello(const uint8_t* bytes, size_t length, struct HookRequest* request,
                                  uint64_t* detail) {
  if (length < kPayload + sizeof(request->hello)) {
    return Bad(detail, offsetof(struct HookHeader, length));
  }
  memcpy(&request->hello, bytes + kPayload, sizeof(request->hello));
  HookSwapHello(&request->hello);
  if (request->hello.version_min == 0 || request->hello.version_min > request->hello.version_max) {
    return Bad(detail, kPayload + offsetof(struct HookHello, version_min));
  }
  // Its flags are not checked: a later client may offer what this hook does not know.
  return kHookStatusOk;
}

static bool RangesOverlap(const struct HookRegion* a, const struct HookRegion* b) {
  return a->device_major == b->device_major && a->device_minor == b->device_minor &&
         a->inode == b->inode && a->file_offset < b->file_offset + b->size &&
         b->file_offset < a->file_offset + a->size;
}

// The offset of the wrong field inside the region, or -1.
static int WrongRegionField(const struct HookRegion* region) {
  uint64_t page_size = region->page_size;
  if (page_size < kPageSizeMin || page_size > kPageSizeMax || (page_size & (page_size - 1)) != 0) {
    return offsetof(struct HookRegion, page_size);
  }
  if (region->file_offset % page_size != 0 || region->file_offset > kFileEndMax) {
    return offsetof(struct HookRegion, file_offset);
  }
  if (region->size == 0 || region->size % page_size != 0 ||
      region->size > kFileEndMax - region->file_offset) {
    return offsetof(struct HookRegion, size);
  }
  if (region->reserved != 0) return offsetof(struct HookRegion, reserved);
  return -1;
}

static enum HookStatus ParseArm(const uint8_t* bytes, size_t length, struct HookRequest* request,
                                uint64_t* detail) {
  if (length < kArmRegions) return Bad(detail, offsetof(struct HookHeader, length));
  memcpy(&request->arm, bytes + kPayload, sizeof(request->arm));
  HookSwapArm(&request->arm);
  uint32_t count = request->arm.region_count;
  if (count == 0 || count > HOOK_REGIONS_MAX) {
    return Bad(detail, kPayload + offsetof(struct HookArm, region_count));
  }
  if ((request->arm.flags & ~(uint32_t)kHookArmHasDevice) != 0) {
    *detail = request->arm.flags;
    return kHookStatusUnsupported;
  }
  if (length != kArmRegions + count * sizeof(struct HookRegion)) {
    return Bad(detail, offsetof(struct HookHeader, length));
  }
  memcpy(request->regions, bytes + kArmRegions, count * sizeof(struct HookRegion));
  for (uint32_t i = 0; i < count; ++i) {
    struct HookRegion* region = &request->regions[i];
    HookSwapRegion(region);
    size_t at = kArmRegions + i * sizeof(struct HookRegion);
    int wrong = WrongRegionField(region);
    if (wrong >= 0) return Bad(detail, at + (size_t)wrong);
    for (uint32_t j = 0; j < i; ++j) {
      if (RangesOverlap(region, &request->regions[j])) {
        return Bad(detail, at + offsetof(struct HookRegion, file_offset));
      }
    }
  }
  return kHookStatusOk;
}

static enum HookStatus ParseHeader(const uint8_t* bytes, size_t length, struct HookHeader* header,
                                   uint64_t* detail) {
  if (length < sizeof(*header)) return Bad(detail, length);
  memcpy(header, bytes, sizeof(*header));
  HookSwapHeader(header);
  if (header->magic != HOOK_MAGIC) return Bad(detail, offsetof(struct HookHeader, magic));
  if (header->length != length) return Bad(detail, offsetof(struct HookHeader, length));
  if (header->status != 0) return Bad(detail, offsetof(struct HookHeader, status));
  if (header->error_number != 0) return Bad(detail, offsetof(struct HookHeader, error_number));
  if (header->detail != 0) return Bad(detail, offsetof(struct HookHeader, detail));
  return kHookStatusOk;
}

enum HookStatus HookParseRequest(const void* bytes, size_t length, struct HookRequest* request,
                                 uint64_t* detail) {
  memset(request, 0, sizeof(*request));
  *detail = 0;
  enum HookStatus status = ParseHeader(bytes, length, &request->header, detail);
  if (status != kHookStatusOk) return status;
  switch (request->header.type) {
    case kHookTypeHello:
      return ParseHello(bytes, length, request, detail);
    case kHookTypeArm:
    case kHookTypeTrack:
    case kHookTypeInspect:
      return ParseArm(bytes, length, request, detail);
    case kHookTypeTake:
    case kHookTypeRelease:
    case kHookTypePing:
    case kHookTypeUntrack:
      if (length != kPayload) return Bad(detail, offsetof(struct HookHeader, length));
      return kHookStatusOk;
    default:
      *detail = request->header.type;
      return kHookStatusUnsupported;
  }
}
