#include "hook/memory_map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// The fields before the path take less than 90 characters; the path is not needed.
enum { kLineBytesMax = 128 };

struct Mapping {
  uint64_t start;
  uint64_t end;
  uint64_t file_offset;
  uint64_t inode;
  uint32_t device_major;
  uint32_t device_minor;
  bool shared;
};

// What has been found of each region so far.
struct Search {
  const struct HookRegion* regions;
  uint32_t region_count;
  uint64_t* host_addresses;
  uint64_t covered[HOOK_REGIONS_MAX];
  enum HookStatus status;
  uint32_t failing;
};

static bool ParseLine(const char* line, struct Mapping* mapping) {
  char permissions[5];
  int fields =
      sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %" SCNx32 ":%" SCNx32 " %" SCNu64,
             &mapping->start, &mapping->end, permissions, &mapping->file_offset,
             &mapping->device_major, &mapping->device_minor, &mapping->inode);
  if (fields != 7 || strlen(permissions) != 4) return false;
  mapping->shared = permissions[3] == 's';
  return true;
}

static void Fail(struct Search* search, uint32_t region, enum HookStatus status) {
  if (search->status != kHookStatusOk) return;
  search->status = status;
  search->failing = region;
}

static void AddMapping(struct Search* search, uint32_t index, const struct Mapping* mapping) {
  const struct HookRegion* region = &search->regions[index];
  if (mapping->inode != region->inode || mapping->device_major != region->device_major ||
      mapping->device_minor != region->device_minor) {
    return;
  }
  uint64_t mapping_file_end = mapping->file_offset + (mapping->end - mapping->start);
  uint64_t region_end = region->file_offset + region->size;
  uint64_t from =
      mapping->file_offset > region->file_offset ? mapping->file_offset : region->file_offset;
  uint64_t to = mapping_file_end < region_end ? mapping_file_end : region_end;
  if (from >= to) return;

  // Any other mapping of these bytes would be outside the userfaultfd, so all must be in order.
  if (!mapping->shared) {
    Fail(search, index, kHookStatusRegionPrivate);
    return;
  }
  uint64_t address = mapping->start + (from - mapping->file_offset);
  uint64_t next = region->file_offset + search->covered[index];
  if (from < next) {
    Fail(search, index, kHookStatusRegionMappedTwice);
    return;
  }
  if (search->covered[index] == 0) search->host_addresses[index] = address;
  if (from > next || address != search->host_addresses[index] + search->covered[index]) {
    Fail(search, index, kHookStatusRegionNotCovered);
    return;
  }
  search->covered[index] += to - from;
}

static void AddLine(struct Search* search, const char* line) {
  struct Mapping mapping;
  if (!ParseLine(line, &mapping) || mapping.inode == 0) return;
  for (uint32_t i = 0; i < search->region_count; ++i) AddMapping(search, i, &mapping);
}

// Feeds each line's first kLineBytesMax - 1 characters to AddLine. Returns 0 or errno.
static int ReadLines(int maps_fd, struct Search* search) {
  if (lseek(maps_fd, 0, SEEK_SET) < 0) return errno;
  char chunk[4096];
  char line[kLineBytesMax];
  size_t line_bytes = 0;
  for (;;) {
    ssize_t count = read(maps_fd, chunk, sizeof(chunk));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) break;
    for (ssize_t i = 0; i < count; ++i) {
      if (chunk[i] != '\n') {
        if (line_bytes < sizeof(line) - 1) line[line_bytes++] = chunk[i];
        continue;
      }
      line[line_bytes] = '\0';
      AddLine(search, line);
      line_bytes = 0;
    }
  }
  return 0;
}

enum HookStatus HookFindRegions(int maps_fd, const struct HookRegion* regions,
                                uint32_t region_count, uint64_t* host_addresses, uint64_t* detail,
                                int* error_number) {
  struct Search search = {.regions = regions,
                          .region_count = region_count,
                          .host_addresses = host_addresses,
                          .status = kHookStatusOk};
  *detail = 0;
  *error_number = ReadLines(maps_fd, &search);
  if (*error_number != 0) return kHookStatusSystem;
  for (uint32_t i = 0; i < region_count; ++i) {
    if (search.covered[i] == 0) {
      Fail(&search, i, kHookStatusRegionNotMapped);
    } else if (search.covered[i] < regions[i].size) {
      Fail(&search, i, kHookStatusRegionNotCovered);
    }
  }
  *detail = search.failing;
  return search.status;
}
