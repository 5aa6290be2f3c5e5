// The text of /proc/self/maps -> where the hook finds RAM. Whatever else is mapped, a region that
// is mapped as it must be is found there.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "hook/memory_map.h"

namespace faultline {
namespace {

constexpr uint64_t kInode = 918273645;
constexpr uint64_t kPage = 4096;
constexpr size_t kRegionsMax = 4;

struct Found {
  HookStatus status = kHookStatusNone;
  std::array<uint64_t, kRegionsMax> addresses{};
  uint64_t detail = 0;
  int error_number = 0;
};

Found Find(const std::string& maps, const std::vector<HookRegion>& regions) {
  static const int fd = memfd_create("maps", MFD_CLOEXEC);
  FAULTLINE_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
  FAULTLINE_CHECK(pwrite(fd, maps.data(), maps.size(), 0) == static_cast<ssize_t>(maps.size()));
  Found found;
  found.status = HookFindRegions(fd, regions.data(), static_cast<uint32_t>(regions.size()),
                                 found.addresses.data(), &found.detail, &found.error_number);
  return found;
}

HookRegion RegionOf(uint64_t inode, uint64_t offset_pages, uint64_t pages) {
  return {.device_major = 0,
          .device_minor = 25,
          .inode = inode,
          .file_offset = offset_pages * kPage,
          .size = pages * kPage,
          .page_size = kPage,
          .reserved = 0};
}

void CheckAnyText(const std::string& text, const std::vector<HookRegion>& regions) {
  const Found found = Find(text, regions);
  FAULTLINE_CHECK(found.error_number == 0);
  FAULTLINE_CHECK(found.status == kHookStatusOk || (found.status >= kHookStatusRegionNotMapped &&
                                                    found.status <= kHookStatusRegionMappedTwice));
  FAULTLINE_CHECK(found.detail < regions.size());
}

// One region in `cuts` adjacent mappings among the text's lines.
void CheckFound(const std::string& text, uint8_t cuts, uint8_t offset_pages) {
  if (text.find(std::to_string(kInode)) != std::string::npos) return;
  constexpr uint64_t kAddress = 0x7f0000000000;
  const uint64_t pages = uint64_t{1} + cuts % 7;
  std::string maps = text + "\n";
  for (uint64_t page = 0; page < pages; ++page) {
    maps += fmt::format("{:x}-{:x} rw-s {:08x} 00:19 {} /dev/shm/ram (deleted)\n",
                        kAddress + page * kPage, kAddress + (page + 1) * kPage,
                        (offset_pages + page) * kPage, kInode);
    // Another file between two pieces, as the kernel never shows it, is no piece of this one.
    if (page % 3 == 1) maps += text + "\n";
  }
  const Found found = Find(maps, {RegionOf(kInode, offset_pages, pages)});
  FAULTLINE_CHECK(found.status == kHookStatusOk && found.addresses[0] == kAddress);
  const Found more = Find(maps, {RegionOf(kInode, offset_pages, pages + 1)});
  FAULTLINE_CHECK(more.status == kHookStatusRegionNotCovered && more.detail == 0);
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  FuzzInput input(data, size);
  const uint8_t count = input.U8();
  const uint8_t offset_pages = input.U8();
  std::vector<HookRegion> regions;
  for (size_t i = 0; i < 1 + count % kRegionsMax; ++i) {
    regions.push_back(RegionOf(uint64_t{1} + input.U8() % 4, input.U8() % 8, 1 + input.U8() % 8));
  }
  const std::string text = input.RestAsText();
  CheckAnyText(text, regions);
  CheckFound(text, count, offset_pages);
  return 0;
}
