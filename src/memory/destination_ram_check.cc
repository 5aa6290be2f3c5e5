#include "memory/destination_ram_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "base/text.h"
#include "memory/ram_file.h"

namespace faultline {
namespace {

bool IsForeign(const FileUser& user, int vm_process_id) {
  return user.process_id != vm_process_id && user.process_id != getpid();
}

// Why leftovers of `region` (number `index`) may not be punched; empty if they may.
std::string ReasonNotToPunch(size_t index, const FileUsers& users, int vm_process_id,
                             bool may_punch) {
  if (!may_punch) return "its VM does not wait for an incoming migration (-incoming defer)";
  for (const FileUser& user : users.users) {
    if (user.file == index && IsForeign(user, vm_process_id)) {
      return fmt::format("process {} ({}) has it open", user.process_id, user.command);
    }
  }
  if (users.hidden_process_count > 0) {
    return fmt::format(
        "{} processes of other users cannot be looked into and may use it (root can look)",
        users.hidden_process_count);
  }
  return "";
}

absl::Status PunchAll(const RamRegion& region) {
  if (fallocate(region.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(region.file_offset_bytes),
                static_cast<off_t>(region.layout.size_bytes)) < 0) {
    return ErrnoStatus(
        errno, fmt::format("punch old data out of the RAM file of '{}'", region.layout.name));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckNobodyElseMaps(std::span<const RamRegion> regions, const FileUsers& users,
                                 int vm_process_id) {
  for (const FileUser& user : users.users) {
    if (!user.mapped || !IsForeign(user, vm_process_id)) continue;
    return absl::FailedPreconditionError(fmt::format(
        "the RAM file of '{}' is mapped by process {} ({}) too; it may be a running VM's memory "
        "(the source's own, if both are on this host). Give the destination a file of its own",
        regions[user.file].layout.name, user.process_id, user.command));
  }
  return absl::OkStatus();
}

absl::Status EnsureEmpty(std::span<const RamRegion> regions, const FileUsers& users,
                         int vm_process_id, bool may_punch) {
  for (size_t i = 0; i < regions.size(); ++i) {
    const RamRegion& region = regions[i];
    if (region.file < 0) continue;
    ASSIGN_OR_RETURN(RamFileKind kind, KindOfRamFile(region.file));
    ASSIGN_OR_RETURN(bool holds_data, HoldsData(region, kind));
    if (!holds_data) continue;
    std::string reason = ReasonNotToPunch(i, users, vm_process_id, may_punch);
    if (!reason.empty()) {
      return absl::FailedPreconditionError(fmt::format(
          "the RAM file of '{}' holds data already, and is not emptied because {}. Start the "
          "destination with a new, empty file and without prealloc=on",
          region.layout.name, reason));
    }
    RETURN_IF_ERROR(PunchAll(region));
    ASSIGN_OR_RETURN(holds_data, HoldsData(region, kind));
    if (holds_data) {
      return absl::FailedPreconditionError(fmt::format(
          "the RAM file of '{}' holds data again after it was emptied; does somebody write to it?",
          region.layout.name));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNoHugeTmpfs(std::span<const RamRegion> regions) {
  ASSIGN_OR_RETURN(std::string mounts, ReadTextFile("/proc/self/mountinfo"));
  for (const RamRegion& region : regions) {
    struct stat info;
    if (region.file < 0) continue;
    if (fstat(region.file, &info) < 0) return ErrnoStatus(errno, "stat a RAM file");
    // "36 35 98:0 /root /mount/point options ... - tmpfs source super,options"
    std::string device = fmt::format(" {}:{} ", major(info.st_dev), minor(info.st_dev));
    std::istringstream lines(mounts);
    for (std::string line; std::getline(lines, line);) {
      if (line.find(device) == std::string::npos) continue;
      for (const char* option : {"huge=always", "huge=within_size"}) {
        if (line.find(option) == std::string::npos) continue;
        return absl::FailedPreconditionError(fmt::format(
            "the RAM file of '{}' is on a tmpfs mounted with {}; remount it with huge=never (mount "
            "-o remount,huge=never ...), or use hugetlbfs for huge pages",
            region.layout.name, option));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace faultline
