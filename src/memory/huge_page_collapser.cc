#include "memory/huge_page_collapser.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <utility>

#include "base/status.h"
#include "memory/kernel_abi.h"
#include "memory/mapping.h"

namespace faultline {
namespace {

constexpr uint64_t kSmallPageBytes = 4096;
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

// 0, or an errno. With nothing to collapse the kernel still says whether it would.
int AskToCollapse(int process, uint64_t address, uint64_t length_bytes) {
  iovec range{.iov_base = reinterpret_cast<void*>(address), .iov_len = length_bytes};
  size_t count = length_bytes == 0 ? 0 : 1;
  long done = syscall(SYS_process_madvise, process, &range, count, kMadvCollapse, 0);
  return done < 0 ? errno : 0;
}

// tmpfs can be told to have no huge pages at all; every other setting (never, too) lets who asks
// for them have them.
bool ShmemDeniesHugePages() {
  std::string line;
  std::getline(std::ifstream("/sys/kernel/mm/transparent_hugepage/shmem_enabled"), line);
  return line.find("[deny]") != std::string::npos;
}

// Whether every page of a stretch of `file` is in memory. What is swapped out is not, and is better
// left there. SEEK_HOLE would walk to the next hole, which may be the file's end.
bool IsResident(int file, uint64_t offset_bytes) {
  absl::StatusOr<Mapping> stretch = Mapping::MapFile(file, offset_bytes, kHugePageBytes,
                                                     /*writable=*/false, "a stretch of RAM");
  if (!stretch.ok()) return false;
  std::array<unsigned char, kHugePageBytes / kSmallPageBytes> resident{};
  if (mincore(stretch->bytes().data(), kHugePageBytes, resident.data()) < 0) return false;
  return std::all_of(resident.begin(), resident.end(),
                     [](unsigned char page) { return (page & 1) != 0; });
}

bool OnlyTellsOfTheHost(int error_number) {
  return error_number == ENOMEM || error_number == EBUSY;
}

}  // namespace

HugePageCollapser::HugePageCollapser(int process, std::vector<Region> regions,
                                     const PageTable* table)
    : process_(process),
      regions_(std::move(regions)),
      table_(table),
      left_out_(regions_.size(), false) {}

std::string HugePageCollapser::FindHindrance() const {
  constexpr char kNothing[] = "no memory of the VM is made huge again";
  if (process_ < 0) {
    return fmt::format(
        "{}: its process cannot be named from here (another namespace of processes?)", kNothing);
  }
  if (ShmemDeniesHugePages()) {
    return fmt::format(
        "{}: /sys/kernel/mm/transparent_hugepage/shmem_enabled says 'deny' (never and the others "
        "will do)",
        kNothing);
  }
  switch (int error_number = AskToCollapse(process_, 0, 0)) {
    case 0:
      return "";
    case EPERM:
    case EACCES:
      return fmt::format("{}: that takes CAP_SYS_NICE, and the right to trace the VM's process",
                         kNothing);
    case EINVAL:
    case ENOSYS:
      return fmt::format("{}: this kernel cannot do it; Linux 6.1 is the first that can", kNothing);
    default:
      return MessageOf(
          Annotate(ErrnoStatus(error_number, "ask for huge pages in the VM's process"), kNothing));
  }
}

std::vector<std::string> HugePageCollapser::LeaveRegionsOut() {
  std::vector<std::string> sentences;
  for (size_t i = 0; i < regions_.size(); ++i) {
    const Region& region = regions_[i];
    if (region.page_size_bytes != kSmallPageBytes || region.file < 0) {
      left_out_[i] = true;
    } else if ((region.host_address - region.file_offset_bytes) % kHugePageBytes != 0) {
      left_out_[i] = true;
      sentences.push_back(
          fmt::format("RAM block '{}' is not made huge again: it is mapped at {:#x}, which does "
                      "not go together "
                      "with pages of 2 MiB; give the destination's memory-backend-file align=2M",
                      region.name, region.host_address));
    }
  }
  return sentences;
}

bool HugePageCollapser::IsWhole(RegionIndex region, uint64_t offset_bytes) const {
  const uint64_t first = offset_bytes / kSmallPageBytes;
  for (uint64_t page = first; page < first + kHugePageBytes / kSmallPageBytes; ++page) {
    if (table_->Get({region, page}) != PageState::kInstalled) return false;
  }
  // The guest may have given pages up since they landed.
  return IsResident(regions_[region].file, regions_[region].file_offset_bytes + offset_bytes);
}

HugePageStep HugePageCollapser::Step() {
  HugePageStep step;
  if (!begun_) {
    begun_ = true;
    if (std::string hindrance = FindHindrance(); !hindrance.empty()) {
      return {.bytes_made = 0, .done = true, .notices = {std::move(hindrance)}};
    }
    step.notices = LeaveRegionsOut();
  }
  while (region_ < regions_.size()) {
    const Region& region = regions_[region_];
    const uint64_t size_bytes = region.page_count * region.page_size_bytes;
    // To the first address that is a multiple.
    const uint64_t lead_bytes = -region.host_address % kHugePageBytes;
    const uint64_t offset_bytes = offset_bytes_ == 0 ? lead_bytes : offset_bytes_;
    if (left_out_[region_] || offset_bytes + kHugePageBytes > size_bytes) {
      ++region_;
      offset_bytes_ = 0;
      continue;
    }
    offset_bytes_ = offset_bytes + kHugePageBytes;
    if (IsWhole(region_, offset_bytes)) Collapse(region_, offset_bytes, &step);
    return step;
  }
  End(&step);
  return step;
}

void HugePageCollapser::Collapse(RegionIndex region, uint64_t offset_bytes, HugePageStep* step) {
  ++tried_;
  const int error_number =
      AskToCollapse(process_, regions_[region].host_address + offset_bytes, kHugePageBytes);
  if (error_number == 0) {
    ++made_;
    refusals_in_a_row_ = 0;
    step->bytes_made = kHugePageBytes;
    return;
  }
  last_error_ = error_number;
  refusals_in_a_row_ = OnlyTellsOfTheHost(error_number) ? refusals_in_a_row_ + 1 : 0;
  // ESRCH: the VM has ended.
  if (error_number == ESRCH || refusals_in_a_row_ == kRefusalsMax) End(step);
}

void HugePageCollapser::End(HugePageStep* step) const {
  step->done = true;
  if (refusals_in_a_row_ == kRefusalsMax) {
    step->notices.push_back(
        fmt::format("the VM's memory is made huge again only in part ({} MiB): this host, or the "
                    "VM's cgroup, has no huge page left to give",
                    made_ * kHugePageBytes >> 20));
  } else if (tried_ > 0 && made_ == 0) {
    step->notices.push_back(MessageOf(
        ErrnoStatus(last_error_, fmt::format("none of {} stretches of the VM's memory could be "
                                             "made huge again: MADV_COLLAPSE in its process",
                                             tried_))));
  }
}

}  // namespace faultline
