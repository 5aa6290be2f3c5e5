// Texts that QEMU and the kernel print -> facts: `info ramblock`, /proc/PID/maps, /proc/PID/status,
// mountinfo, cgroups. What is understood, printed again, is understood alike.
#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "memory/cgroup_limits.h"
#include "vmm/qemu/qemu_text.h"

namespace faultline {
namespace {

void CheckRamBlocks(const std::string& text) {
  const absl::StatusOr<std::vector<RamBlock>> blocks = ParseRamBlocks(text);
  if (!blocks.ok()) {
    FAULTLINE_CHECK(MessageOf(blocks.status()).find("info ramblock") != std::string::npos);
    return;
  }
  std::string again = "Block Name PSize Offset Used Total HVA\n";
  for (const RamBlock& block : *blocks) {
    FAULTLINE_CHECK(!block.name.empty() && block.name.size() <= text.size());
    again += fmt::format("{} {} B 0x0 {:#x} {:#x} {:#x}\n", block.name, block.page_size_bytes,
                         block.used_bytes, block.total_bytes, block.host_address);
  }
  const absl::StatusOr<std::vector<RamBlock>> second = ParseRamBlocks(again);
  FAULTLINE_CHECK(second.ok() && *second == *blocks);
}

void CheckMaps(const std::string& text) {
  const std::vector<ProcessMapping> mappings = ParseProcessMaps(text);
  std::string again;
  for (const ProcessMapping& one : mappings) {
    again += fmt::format("{:x}-{:x} rw-{} {:x} {:x}:{:x} {} {}\r\n", one.start, one.end,
                         one.shared ? 's' : 'p', one.offset, major(one.device), minor(one.device),
                         one.inode, one.path);
  }
  const std::vector<ProcessMapping> second = ParseProcessMaps(again);
  FAULTLINE_CHECK(second.size() == mappings.size());
  for (size_t i = 0; i < mappings.size(); ++i) {
    const ProcessMapping &a = mappings[i], &b = second[i];
    FAULTLINE_CHECK(a.start == b.start && a.end == b.end && a.offset == b.offset &&
                    a.shared == b.shared && a.device == b.device && a.inode == b.inode &&
                    a.path == b.path);
  }
}

void CheckCgroups(const std::string& mountinfo, const std::string& cgroup) {
  for (const CgroupPlace& place : ParseCgroupPlaces(mountinfo, cgroup)) {
    FAULTLINE_CHECK(place.path.empty() || place.path.back() != '/');
    FAULTLINE_CHECK(place.path.size() <= cgroup.size() && place.mount.size() <= mountinfo.size());
  }
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  FuzzInput input(data, size);
  switch (input.U8() % 4) {
    case 0:
      CheckRamBlocks(input.RestAsText());
      break;
    case 1:
      CheckMaps(input.RestAsText());
      break;
    case 2: {
      const std::string mountinfo = input.TextUpTo('\0');
      CheckCgroups(mountinfo, input.RestAsText());
      break;
    }
    default: {
      const std::string text = input.RestAsText();
      const std::string options = ParseMountOptions(text, makedev(0, 25));
      FAULTLINE_CHECK(options.empty() || text.find("0:25") != std::string::npos);
      (void)ParseLockedBytes(text);
    }
  }
  return 0;
}
