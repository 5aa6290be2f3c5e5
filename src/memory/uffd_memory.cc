#include "memory/uffd_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/check.h"
#include "memory/huge_page_collapser.h"
#include "memory/kernel_abi.h"

namespace faultline {
namespace {

// Zeros handed to one UFFDIO_COPY where UFFDIO_ZEROPAGE is not to be had.
constexpr uint64_t kZerosBytesMin = 1 << 20;
constexpr uint64_t kSmallPageBytes = 4096;

InstallOutcome OutcomeOf(int error_number) {
  switch (error_number) {
    case EEXIST:
      return InstallOutcome::kPresent;
    case EAGAIN:
      return InstallOutcome::kRetry;
    case ENOSPC:
    case ENOMEM:
      return InstallOutcome::kNoSpace;
    case ENOENT:
    case ESRCH:
      return InstallOutcome::kGone;
    default:
      return InstallOutcome::kFailed;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<UffdMemory>> UffdMemory::Make(std::span<const RamRegion> regions,
                                                             ArmedMemory armed,
                                                             PageStateMemfd page_state,
                                                             FdPoller* poller, MemoryArmer* armer) {
  FAULTLINE_CHECK(armed.regions.size() == regions.size());
  MemoryLayout layout;
  std::vector<uint64_t> host_addresses;
  std::vector<Region> own;
  uint64_t zeros_bytes = kZerosBytesMin;
  for (size_t i = 0; i < regions.size(); ++i) {
    layout.push_back(regions[i].layout);
    host_addresses.push_back(armed.regions[i].host_address);
    own.push_back({.ioctls = armed.regions[i].ioctls,
                   .file = regions[i].file,
                   .file_offset_bytes = regions[i].file_offset_bytes,
                   .name = regions[i].layout.name});
    zeros_bytes = std::max(zeros_bytes, regions[i].layout.page_size_bytes);
  }
  ASSIGN_OR_RETURN(AddressMap addresses, AddressMap::Make(layout, host_addresses));
  ASSIGN_OR_RETURN(Mapping zeros, Mapping::MapZeros(zeros_bytes));
  // A blocking userfaultfd polls as an error.
  RETURN_IF_ERROR(SetNonBlocking(armed.uffd.get(), true));
  return std::unique_ptr<UffdMemory>(new UffdMemory(
      std::move(addresses), std::move(own), std::move(armed.uffd), std::move(armed.process),
      std::move(page_state), std::move(zeros), poller, armer));
}

UffdMemory::UffdMemory(AddressMap addresses, std::vector<Region> regions, FileDescriptor uffd,
                       FileDescriptor process, PageStateMemfd page_state, Mapping zeros,
                       FdPoller* poller, MemoryArmer* armer)
    : addresses_(std::move(addresses)),
      regions_(std::move(regions)),
      uffd_(std::move(uffd)),
      process_(std::move(process)),
      page_state_(std::move(page_state)),
      zeros_(std::move(zeros)),
      poller_(poller),
      armer_(armer) {}

void UffdMemory::StartEvents(Listener* listener) {
  watch_ = poller_->WatchReadable(uffd_.get(), [listener] { listener->OnEventsReady(); });
}

void UffdMemory::StopEvents() { watch_.reset(); }

absl::Status UffdMemory::ReadEvents(MemoryEvents* events) {
  std::array<uffd_msg, 128> messages;
  for (;;) {
    ssize_t got = read(uffd_.get(), messages.data(), sizeof(messages));
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return absl::OkStatus();
      return ErrnoStatus(errno, "read the userfaultfd");
    }
    size_t count = static_cast<size_t>(got) / sizeof(uffd_msg);
    for (size_t i = 0; i < count; ++i) RETURN_IF_ERROR(Apply(messages[i], events));
    // A short read has taken all that waited; the poller tells of what comes after it.
    if (count < messages.size()) return absl::OkStatus();
  }
}

absl::Status UffdMemory::Apply(const uffd_msg& message, MemoryEvents* events) const {
  switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
      if (std::optional<PageId> page = addresses_.PageAt(message.arg.pagefault.address)) {
        events->faults.push_back(*page);
      }
      return absl::OkStatus();
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP: {
      std::vector<PageRun> runs =
          addresses_.RunsIn(message.arg.remove.start, message.arg.remove.end);
      events->discards.insert(events->discards.end(), runs.begin(), runs.end());
      return absl::OkStatus();
    }
    case UFFD_EVENT_REMAP:
      if (addresses_.RunsIn(message.arg.remap.from, message.arg.remap.from + message.arg.remap.len)
              .empty()) {
        return absl::OkStatus();
      }
      return absl::FailedPreconditionError(fmt::format(
          "the VM's process moved {} bytes of its RAM from address {:#x} to {:#x} while pages are "
          "missing; memory must stay where it is until the migration has ended",
          message.arg.remap.len, message.arg.remap.from, message.arg.remap.to));
    case UFFD_EVENT_FORK:
      // Reading it has made a descriptor for the child's memory, which is none of ours.
      FileDescriptor(static_cast<int>(message.arg.fork.ufd)).Reset();
      return absl::OkStatus();
    default:
      return absl::OkStatus();
  }
}

UffdMemory::Landed UffdMemory::Copy(uint64_t address, const std::byte* data,
                                    uint64_t length_bytes) const {
  uffdio_copy copy{.dst = address,
                   .src = reinterpret_cast<uint64_t>(data),
                   .len = length_bytes,
                   .mode = 0,
                   .copy = 0};
  if (ioctl(uffd_.get(), UFFDIO_COPY, &copy) == 0) return {length_bytes, 0};
  if (copy.copy > 0) return {static_cast<uint64_t>(copy.copy), 0};
  return {0, errno};
}

UffdMemory::Landed UffdMemory::ZeroPage(uint64_t address, uint64_t length_bytes) const {
  uffdio_zeropage zero{.range = {.start = address, .len = length_bytes}, .mode = 0, .zeropage = 0};
  if (ioctl(uffd_.get(), UFFDIO_ZEROPAGE, &zero) == 0) return {length_bytes, 0};
  if (zero.zeropage > 0) return {static_cast<uint64_t>(zero.zeropage), 0};
  return {0, errno};
}

UffdMemory::Landed UffdMemory::PoisonPages(uint64_t address, uint64_t length_bytes) const {
  UffdioPoison poison{.range = {.start = address, .len = length_bytes}, .mode = 0, .updated = 0};
  if (ioctl(uffd_.get(), kUffdioPoison, &poison) == 0) return {length_bytes, 0};
  if (poison.updated > 0) return {static_cast<uint64_t>(poison.updated), 0};
  return {0, errno};
}

bool UffdMemory::IsThere(PageId page) const {
  uint64_t page_bytes = addresses_.page_size_bytes(page.region);
  uint64_t address = addresses_.AddressOf(page);
  if (page_bytes == kSmallPageBytes) return true;
  if (regions_[page.region].file < 0) {
    // Without a file it is memory of this process.
    unsigned char resident = 0;
    return mincore(reinterpret_cast<void*>(address), kSmallPageBytes, &resident) < 0 ||
           (resident & 1) != 0;
  }
  // Maps a page that the file has (EEXIST: it is mapped), and fails with EFAULT on a hole.
  uffdio_continue probe{.range = {.start = address, .len = page_bytes},
                        .mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
                        .mapped = 0};
  return ioctl(uffd_.get(), UFFDIO_CONTINUE, &probe) == 0 || errno != EFAULT;
}

template <typename Land>
InstallResult UffdMemory::InstallAll(PageRun run, Land land) {
  FAULTLINE_CHECK(addresses_.Contains(run));
  uint64_t page_bytes = addresses_.page_size_bytes(run.region);
  uint64_t length_bytes = run.count * page_bytes;
  for (uint64_t done_bytes = 0; done_bytes < length_bytes;) {
    Landed landed = land(done_bytes);
    done_bytes += landed.bytes;
    if (landed.error_number == 0 || landed.error_number == EINTR) continue;
    uint64_t pages = done_bytes / page_bytes;
    if (landed.error_number == EEXIST && !IsThere({run.region, run.first + pages})) {
      landed.error_number = ENOMEM;
    }
    if (landed.error_number == EEXIST) {
      // Who waits there may have faulted before the other installation landed.
      absl::Status woken = Wake({run.region, run.first + pages, 1});
      if (!woken.ok()) return {InstallOutcome::kFailed, pages, EINVAL};
    }
    return {OutcomeOf(landed.error_number), pages, landed.error_number};
  }
  return {InstallOutcome::kDone, run.count, 0};
}

InstallResult UffdMemory::Install(PageRun run, std::span<const std::byte> data) {
  uint64_t address = addresses_.AddressOf({run.region, run.first});
  FAULTLINE_CHECK(data.size() == run.count * addresses_.page_size_bytes(run.region));
  return InstallAll(run, [&](uint64_t done_bytes) {
    return Copy(address + done_bytes, data.data() + done_bytes, data.size() - done_bytes);
  });
}

InstallResult UffdMemory::InstallZeros(PageRun run) {
  uint64_t address = addresses_.AddressOf({run.region, run.first});
  uint64_t length_bytes = run.count * addresses_.page_size_bytes(run.region);
  bool zeropage = (regions_[run.region].ioctls & UffdIoctlBit(_UFFDIO_ZEROPAGE)) != 0;
  return InstallAll(run, [&](uint64_t done_bytes) {
    uint64_t left_bytes = length_bytes - done_bytes;
    if (zeropage) return ZeroPage(address + done_bytes, left_bytes);
    // hugetlb.
    std::span<const std::byte> zeros = zeros_.bytes();
    return Copy(address + done_bytes, zeros.data(), std::min(left_bytes, zeros.size()));
  });
}

bool UffdMemory::CanPoison() const {
  return std::all_of(regions_.begin(), regions_.end(), [](const Region& region) {
    return (region.ioctls & UffdIoctlBit(kUffdioPoisonNumber)) != 0;
  });
}

InstallResult UffdMemory::Poison(PageRun run) {
  FAULTLINE_CHECK(CanPoison() && addresses_.Contains(run));
  const uint64_t page_bytes = addresses_.page_size_bytes(run.region);
  const uint64_t address = addresses_.AddressOf({run.region, run.first});
  const uint64_t length_bytes = run.count * page_bytes;
  for (uint64_t done_bytes = 0; done_bytes < length_bytes;) {
    const Landed landed = PoisonPages(address + done_bytes, length_bytes - done_bytes);
    done_bytes += landed.bytes;
    if (landed.error_number == 0 || landed.error_number == EINTR) continue;
    // Unlike an installation, EEXIST in hugetlbfs is no lack of huge pages: this takes none.
    return {OutcomeOf(landed.error_number), done_bytes / page_bytes, landed.error_number};
  }
  return {InstallOutcome::kDone, run.count, 0};
}

absl::Status UffdMemory::Punch(PageRun run) {
  FAULTLINE_CHECK(addresses_.Contains(run));
  const Region& region = regions_[run.region];
  if (region.file < 0 || run.empty()) return absl::OkStatus();
  uint64_t page_bytes = addresses_.page_size_bytes(run.region);
  off_t first = static_cast<off_t>(region.file_offset_bytes + run.first * page_bytes);
  off_t length = static_cast<off_t>(run.count * page_bytes);
  // Punching a hole costs more than looking, and most ranges that a guest gives up are holes by
  // then: it was QEMU that punched them. hugetlbfs says "data" everywhere.
  off_t data = lseek(region.file, first, SEEK_DATA);
  if (data < 0 && errno == ENXIO) return absl::OkStatus();
  if (data >= first + length) return absl::OkStatus();
  if (fallocate(region.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first, length) < 0) {
    return ErrnoStatus(errno, fmt::format("punch {} bytes at {} out of the RAM file of '{}'",
                                          length, first, region.name));
  }
  return absl::OkStatus();
}

absl::Status UffdMemory::CheckPreCopy() const {
  for (const Region& region : regions_) {
    if (region.file >= 0) continue;
    return absl::FailedPreconditionError(
        fmt::format("region '{}' has no file, so that its pages cannot be sent more than once: use "
                    "post-copy",
                    region.name));
  }
  return absl::OkStatus();
}

absl::Status UffdMemory::Overwrite(PageRun run, std::span<const std::byte> data) {
  FAULTLINE_CHECK(addresses_.Contains(run));
  const Region& region = regions_[run.region];
  const uint64_t page_bytes = addresses_.page_size_bytes(run.region);
  FAULTLINE_CHECK(region.file >= 0 && data.size() == run.count * page_bytes);
  if (page_bytes != kSmallPageBytes) return PutAnew(run, data);
  const auto first = static_cast<off_t>(region.file_offset_bytes + run.first * page_bytes);
  for (size_t done = 0; done < data.size();) {
    ssize_t put = pwrite(region.file, data.data() + done, data.size() - done,
                         first + static_cast<off_t>(done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      return ErrnoStatus(errno, fmt::format("write {} bytes at {} into the RAM file of '{}'",
                                            data.size(), first, region.name));
    }
    done += static_cast<size_t>(put);
  }
  return absl::OkStatus();
}

absl::Status UffdMemory::PutAnew(PageRun run, std::span<const std::byte> data) {
  RETURN_IF_ERROR(Punch(run));
  RETURN_IF_ERROR(ReserveAnew(run));
  const InstallResult result = Install(run, data);
  if (result.outcome == InstallOutcome::kDone) return absl::OkStatus();
  return ErrnoStatus(result.error_number,
                     fmt::format("put {} huge pages anew into the RAM file of '{}'", run.count,
                                 regions_[run.region].name));
}

// A huge page that is punched out goes back to the host's pool, and with it the VM's claim on one,
// which it got when its memory was mapped. Mapping the hole claims it again, and the claim stays.
absl::Status UffdMemory::ReserveAnew(PageRun run) const {
  const Region& region = regions_[run.region];
  const uint64_t page_bytes = addresses_.page_size_bytes(run.region);
  if (page_bytes == kSmallPageBytes || run.empty()) return absl::OkStatus();
  const uint64_t length_bytes = run.count * page_bytes;
  const auto first = static_cast<off_t>(region.file_offset_bytes + run.first * page_bytes);
  void* claimed = mmap(nullptr, length_bytes, PROT_READ, MAP_SHARED, region.file, first);
  if (claimed == MAP_FAILED) {
    return ErrnoStatus(errno, fmt::format("claim {} huge pages anew for the RAM file of '{}'",
                                          run.count, region.name));
  }
  munmap(claimed, length_bytes);
  return absl::OkStatus();
}

absl::Status UffdMemory::MakeMissing(PageRun run) {
  FAULTLINE_CHECK(regions_[run.region].file >= 0);
  RETURN_IF_ERROR(Punch(run));
  RETURN_IF_ERROR(ReserveAnew(run));
  page_state_.table().MakeMissing(run);
  return absl::OkStatus();
}

absl::Status UffdMemory::Wake(PageRun run) {
  FAULTLINE_CHECK(addresses_.Contains(run));
  if (run.empty()) return absl::OkStatus();
  uffdio_range range{.start = addresses_.AddressOf({run.region, run.first}),
                     .len = run.count * addresses_.page_size_bytes(run.region)};
  if (ioctl(uffd_.get(), UFFDIO_WAKE, &range) < 0) {
    return ErrnoStatus(
        errno, fmt::format("wake who waits for pages of region '{}'", regions_[run.region].name));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> UffdMemory::Disarm() {
  absl::Status unregistered;
  for (RegionIndex region = 0; region < regions_.size(); ++region) {
    uffdio_range range{.start = addresses_.AddressOf({region, 0}),
                       .len = addresses_.page_count(region) * addresses_.page_size_bytes(region)};
    if (ioctl(uffd_.get(), UFFDIO_UNREGISTER, &range) < 0 && unregistered.ok()) {
      unregistered = ErrnoStatus(
          errno, fmt::format("unregister region '{}' from the userfaultfd", regions_[region].name));
    }
    // The kernel wakes who waits before it takes the registration away: who begins to wait between
    // the two would do so for good (seen on 6.18, where faults no longer take the process' lock).
    Wake({region, 0, addresses_.page_count(region)}).IgnoreError();
  }
  disarmed_ = true;
  watch_.reset();
  if (armer_ == nullptr && !unregistered.ok()) return unregistered;
  const absl::Status released = armer_ == nullptr ? absl::OkStatus() : armer_->Release();
  // What could not be unregistered (memory that was unplugged, say) ends with the last descriptor:
  // the other process' one now, this one soon.
  if (released.ok()) return std::string();
  if (!unregistered.ok()) return released;
  // It has been asked, so it does it when it goes on; nothing waits for that.
  return fmt::format(
      "nobody waits for memory any more, but the VM's process has not said yet that "
      "it has let go of what it kept for that ({})",
      MessageOf(released));
}

std::unique_ptr<HugePageMaker> UffdMemory::MakeHugePageMaker() {
  FAULTLINE_CHECK(disarmed_);
  std::vector<HugePageCollapser::Region> regions;
  for (RegionIndex region = 0; region < regions_.size(); ++region) {
    regions.push_back({.name = regions_[region].name,
                       .page_size_bytes = addresses_.page_size_bytes(region),
                       .page_count = addresses_.page_count(region),
                       .host_address = addresses_.AddressOf({region, 0}),
                       .file = regions_[region].file,
                       .file_offset_bytes = regions_[region].file_offset_bytes});
  }
  return std::make_unique<HugePageCollapser>(process_.get(), std::move(regions),
                                             &page_state_.table());
}

UffdMemory::~UffdMemory() {
  if (!disarmed_ && page_state_.table().missing_pages() > 0) (void)uffd_.Release();
}

}  // namespace faultline
