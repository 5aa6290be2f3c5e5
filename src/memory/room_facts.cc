// ReadRoomFacts: what statfs, /proc and /sys say.
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <map>
#include <sstream>

#include "base/text.h"
#include "memory/cgroup_limits.h"
#include "memory/ram_file.h"
#include "memory/ram_file_users.h"
#include "memory/room_check.h"

namespace faultline {
namespace {

// Page tables for the VM's process.
uint64_t WithPageTables(uint64_t bytes) { return bytes + bytes / 512; }

absl::StatusOr<uint64_t> ReadSysNumber(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadTextFile(path));
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) {
    return absl::InternalError(fmt::format("'{}' does not hold a number: '{}'", path, text));
  }
  return number;
}

// "MemAvailable:   123 kB"
absl::StatusOr<uint64_t> MeminfoBytes(const std::string& meminfo, const std::string& key) {
  size_t at = meminfo.find(key + ":");
  if (at == std::string::npos) {
    return absl::InternalError(fmt::format("/proc/meminfo has no {}", key));
  }
  std::istringstream fields(meminfo.substr(at + key.size() + 1));
  uint64_t kib = 0;
  fields >> kib;
  return kib * 1024;
}

std::string MountOf(dev_t device) {
  absl::StatusOr<std::string> mounts = ReadTextFile("/proc/self/mountinfo");
  if (!mounts.ok()) return "?";
  std::string wanted = fmt::format("{}:{}", major(device), minor(device));
  std::istringstream lines(*mounts);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string id, parent, number, root, mount;
    fields >> id >> parent >> number >> root >> mount;
    if (number == wanted) return mount;
  }
  return "?";
}

// Huge pages are set aside when a file is mapped, unless it is mapped MAP_NORESERVE ("nr").
absl::StatusOr<bool> HasReserved(const FileIdentity& file, int vm_process_id) {
  if (vm_process_id == 0) return false;
  std::ifstream smaps(fmt::format("/proc/{}/smaps", vm_process_id));
  std::string wanted = fmt::format(" {:02x}:{:02x} {} ", major(file.device), minor(file.device),
                                   static_cast<uint64_t>(file.inode));
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    bool header = !line.empty() && line.find('-') < line.find(' ') && line.find(':') > 16;
    if (header) inside = line.find(wanted) != std::string::npos;
    if (inside && line.starts_with("VmFlags:")) return line.find(" nr") == std::string::npos;
  }
  return false;
}

absl::StatusOr<RoomFacts::HugePages> ReadHugePages(uint64_t page_size_bytes) {
  std::string directory =
      fmt::format("/sys/kernel/mm/hugepages/hugepages-{}kB/", page_size_bytes / 1024);
  ASSIGN_OR_RETURN(uint64_t free_pages, ReadSysNumber(directory + "free_hugepages"));
  ASSIGN_OR_RETURN(uint64_t reserved, ReadSysNumber(directory + "resv_hugepages"));
  ASSIGN_OR_RETURN(uint64_t overcommit, ReadSysNumber(directory + "nr_overcommit_hugepages"));
  ASSIGN_OR_RETURN(uint64_t surplus, ReadSysNumber(directory + "surplus_hugepages"));
  return RoomFacts::HugePages{
      .page_size_bytes = page_size_bytes,
      .needed_bytes = 0,
      .free_bytes = (free_pages - std::min(free_pages, reserved)) * page_size_bytes,
      .overcommit_bytes = (overcommit - std::min(overcommit, surplus)) * page_size_bytes};
}

absl::Status AddHugeRegion(const RamRegion& region, const FileIdentity& file, int vm_process_id,
                           std::map<uint64_t, RoomFacts::HugePages>* huge_pages) {
  uint64_t page_bytes = region.layout.page_size_bytes;
  if (!huge_pages->contains(page_bytes)) {
    ASSIGN_OR_RETURN((*huge_pages)[page_bytes], ReadHugePages(page_bytes));
  }
  ASSIGN_OR_RETURN(bool reserved, HasReserved(file, vm_process_id));
  if (!reserved) (*huge_pages)[page_bytes].needed_bytes += region.layout.size_bytes;
  return absl::OkStatus();
}

// What the file holds already counts as used; it stays its own, or is punched and free again.
absl::StatusOr<uint64_t> BytesStillNeeded(const RamRegion& region) {
  struct stat info;
  if (fstat(region.file, &info) < 0) return ErrnoStatus(errno, "ask a RAM file for its size");
  uint64_t held_bytes = static_cast<uint64_t>(info.st_blocks) * 512;
  return region.layout.size_bytes - std::min(region.layout.size_bytes, held_bytes);
}

absl::Status AddTmpfsRegion(const RamRegion& region, const FileIdentity& file,
                            std::map<dev_t, RoomFacts::Tmpfs>* tmpfs) {
  struct statfs info;
  if (fstatfs(region.file, &info) < 0) return ErrnoStatus(errno, "ask a tmpfs for its free space");
  if (info.f_blocks == 0) return absl::OkStatus();  // it has no limit
  RoomFacts::Tmpfs& entry = (*tmpfs)[file.device];
  entry.mount = MountOf(file.device);
  entry.free_bytes = info.f_bfree * static_cast<uint64_t>(info.f_bsize);
  ASSIGN_OR_RETURN(uint64_t still_needed_bytes, BytesStillNeeded(region));
  entry.needed_bytes += still_needed_bytes;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RoomFacts> ReadRoomFacts(std::span<const RamRegion> regions, int vm_process_id) {
  RoomFacts facts;
  std::map<dev_t, RoomFacts::Tmpfs> tmpfs;
  std::map<uint64_t, RoomFacts::HugePages> huge_pages;
  uint64_t small_bytes = 0;
  for (const RamRegion& region : regions) {
    if (region.file < 0) {
      small_bytes += region.layout.size_bytes;
      continue;
    }
    ASSIGN_OR_RETURN(FileIdentity file, IdentityOf(region.file));
    ASSIGN_OR_RETURN(RamFileKind kind, KindOfRamFile(region.file));
    if (kind == RamFileKind::kHugetlbfs) {
      RETURN_IF_ERROR(AddHugeRegion(region, file, vm_process_id, &huge_pages));
    } else {
      RETURN_IF_ERROR(AddTmpfsRegion(region, file, &tmpfs));
      ASSIGN_OR_RETURN(uint64_t still_needed_bytes, BytesStillNeeded(region));
      small_bytes += still_needed_bytes;
    }
  }
  for (const auto& [device, entry] : tmpfs) facts.tmpfs.push_back(entry);
  for (const auto& [page_bytes, entry] : huge_pages) facts.huge_pages.push_back(entry);
  facts.memory_needed_bytes = WithPageTables(small_bytes);
  ASSIGN_OR_RETURN(std::string meminfo, ReadTextFile("/proc/meminfo"));
  ASSIGN_OR_RETURN(facts.memory_available_bytes, MeminfoBytes(meminfo, "MemAvailable"));
  ASSIGN_OR_RETURN(facts.swap_free_bytes, MeminfoBytes(meminfo, "SwapFree"));
  if (vm_process_id != 0) {
    ASSIGN_OR_RETURN(facts.cgroups, ReadMemoryLimitsOf(vm_process_id));
  }
  return facts;
}

}  // namespace faultline
