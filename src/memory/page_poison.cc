#include "memory/page_poison.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <sstream>
#include <string>

#include "base/text.h"
#include "memory/ram_file.h"

namespace faultline {
namespace {

constexpr char kShmemHugePages[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

absl::Status ApplyDiscards(UffdMemory* memory) {
  MemoryEvents events;
  RETURN_IF_ERROR(memory->ReadEvents(&events));
  for (const PageRun& run : events.discards) memory->table().Discard(run);
  return absl::OkStatus();
}

absl::Status PoisonRun(UffdMemory* memory, PageRun run, uint64_t* poisoned) {
  while (!run.empty()) {
    const InstallResult result = memory->Poison(run);
    *poisoned += result.pages;
    run.first += result.pages;
    run.count -= result.pages;
    if (result.outcome == InstallOutcome::kDone) return absl::OkStatus();
    if (result.outcome == InstallOutcome::kPresent) {
      // Poisoned already, by a process before this one.
      ++*poisoned;
      ++run.first;
      --run.count;
      continue;
    }
    if (result.outcome == InstallOutcome::kRetry) {
      RETURN_IF_ERROR(ApplyDiscards(memory));
      const PageRun left = memory->table().FindMissing(run);
      // What follows the stretch is found by the caller.
      if (left.first != run.first) return absl::OkStatus();
      run = left;
      continue;
    }
    return ErrnoStatus(result.error_number,
                       fmt::format("poison page {} of region {}", run.first, run.region));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPoisonLasts(std::span<const RamRegion> regions) {
  ASSIGN_OR_RETURN(std::string mounts, ReadTextFile("/proc/self/mountinfo"));
  for (const RamRegion& region : regions) {
    ASSIGN_OR_RETURN(RamFileKind kind, KindOfRamFile(region.file));
    if (kind != RamFileKind::kTmpfs) continue;
    // A kernel without transparent huge pages lacks the file.
    absl::StatusOr<std::string> forced = ReadTextFile(kShmemHugePages);
    if (forced.ok() && forced->find("[force]") != std::string::npos) {
      return absl::FailedPreconditionError(
          fmt::format("'{}' says 'force': the kernel may put zeros in a poisoned page's place. "
                      "Write 'never' to it first",
                      kShmemHugePages));
    }
    struct stat info;
    if (fstat(region.file, &info) < 0) return ErrnoStatus(errno, "stat a RAM file");
    const std::string device = fmt::format(" {}:{} ", major(info.st_dev), minor(info.st_dev));
    std::istringstream lines(mounts);
    for (std::string line; std::getline(lines, line);) {
      if (line.find(device) == std::string::npos || line.find("huge=") == std::string::npos ||
          line.find("huge=never") != std::string::npos) {
        continue;
      }
      return absl::FailedPreconditionError(fmt::format(
          "the RAM file of '{}' is on a tmpfs that may use huge pages, where the kernel may put "
          "zeros in a poisoned page's place: remount it first (mount -o remount,huge=never ...)",
          region.layout.name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> PoisonMissing(UffdMemory* memory) {
  if (!memory->CanPoison()) {
    return absl::UnimplementedError(
        "the kernel that runs the VM cannot poison pages (Linux 6.6 and later can): leave the VM "
        "frozen and dump what there is");
  }
  RETURN_IF_ERROR(ApplyDiscards(memory));
  uint64_t poisoned = 0;
  const MemoryLayout& layout = memory->table().layout();
  for (RegionIndex region = 0; region < layout.size(); ++region) {
    for (uint64_t page = 0; page < layout[region].page_count();) {
      const PageRun run =
          memory->table().FindMissing({region, page, layout[region].page_count() - page});
      if (run.empty()) break;
      const uint64_t before = poisoned;
      RETURN_IF_ERROR(PoisonRun(memory, run, &poisoned));
      // Less than the run if the guest gave some of it up: what follows that is looked for again.
      page = run.first + (poisoned - before);
    }
  }
  RETURN_IF_ERROR(ApplyDiscards(memory));
  return poisoned;
}

}  // namespace faultline
