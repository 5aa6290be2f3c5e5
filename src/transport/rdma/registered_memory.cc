#include "transport/rdma/registered_memory.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>

#include "transport/rdma/memory_lock_limit.h"

namespace faultline {
namespace {

constexpr uint64_t kPieceBytesMax = 64 * 1024 * 1024;
// Beyond them the shortest are left out: their pages are sent.
constexpr size_t kPiecesMax = 16384;
// Nobody writes through it. Without the right to write kernels from 6.2 on pin by read faults,
// which map the pages around as well: what stands in the page tables would not be what is pinned.
constexpr int kAccess = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ;
constexpr uint64_t kPresent = uint64_t{1} << 63;  // Documentation/admin-guide/mm/pagemap.rst

}  // namespace

absl::StatusOr<std::unique_ptr<RegisteredMemory>> RegisteredMemory::Make(
    std::shared_ptr<RdmaDomain> domain, SourceMemory* memory, int page_tables) {
  std::unique_ptr<RegisteredMemory> made(
      new RegisteredMemory(std::move(domain), memory, page_tables));
  ASSIGN_OR_RETURN(const AllocationMap map, memory->ReadAllocationMap());
  for (RegionIndex region = 0; region < map.size(); ++region) {
    ASSIGN_OR_RETURN(std::span<std::byte> bytes, memory->Map(region));
    made->Plan(region, map[region], bytes);
  }
  made->KeepLongest();
  RETURN_IF_ERROR(CheckMemoryLockLimit(made->bytes_wanted_, "the VM's memory"));
  return made;
}

void RegisteredMemory::Plan(RegionIndex region, const PageRangeSet& pages,
                            std::span<std::byte> bytes) {
  const uint64_t page_bytes = memory_->layout()[region].page_size_bytes;
  const uint64_t piece_pages = std::max<uint64_t>(kPieceBytesMax / page_bytes, 1);
  pages.ForEach([&](PageRange range) {
    for (uint64_t first = range.first; first < range.end; first += piece_pages) {
      const uint64_t count = std::min(piece_pages, range.end - first);
      pieces_.push_back({.run = {region, first, count},
                         .bytes = bytes.subspan(first * page_bytes, count * page_bytes),
                         .region = nullptr});
    }
  });
}

void RegisteredMemory::KeepLongest() {
  if (pieces_.size() > kPiecesMax) {
    std::ranges::nth_element(pieces_, pieces_.begin() + kPiecesMax, std::ranges::greater(),
                             [](const Piece& piece) { return piece.bytes.size(); });
    pieces_.resize(kPiecesMax);
  }
  for (const Piece& piece : pieces_) bytes_wanted_ += piece.bytes.size();
}

absl::StatusOr<bool> RegisteredMemory::RegisterSome() {
  for (uint64_t bytes = 0; next_ < pieces_.size(); ++next_) {
    Piece& piece = pieces_[next_];
    bytes += piece.bytes.size();
    if (bytes > kPieceBytesMax && bytes > piece.bytes.size()) return true;  // one at least
    piece.region.reset(ibv_reg_mr(domain_->pd(), piece.bytes.data(), piece.bytes.size(), kAccess));
    if (piece.region == nullptr) {
      return RegistrationError(errno, piece.bytes.size(), "the VM's memory");
    }
    bytes_registered_ += piece.bytes.size();
  }
  return false;
}

const ReadablePages& RegisteredMemory::Readable() {
  std::call_once(readable_once_, [this] {
    readable_.emplace(memory_->layout());
    for (size_t i = 0; i < next_; ++i) {
      // What cannot be told is not readable: it is sent.
      if (!AddPresent(pieces_[i], &*readable_).ok()) return;
    }
  });
  return *readable_;
}

absl::Status RegisteredMemory::AddPresent(const Piece& piece, ReadablePages* readable) const {
  const auto host_page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t page_bytes = memory_->layout()[piece.run.region].page_size_bytes;
  const uint64_t host_pages_each = page_bytes / host_page_bytes;
  const auto begin = reinterpret_cast<uint64_t>(piece.bytes.data());
  std::vector<uint64_t> entries(piece.run.count * host_pages_each);
  const size_t bytes = entries.size() * sizeof(uint64_t);
  const auto offset = static_cast<off_t>(begin / host_page_bytes * sizeof(uint64_t));
  if (pread(page_tables_, entries.data(), bytes, offset) != static_cast<ssize_t>(bytes)) {
    return ErrnoStatus(errno, "read this process's page tables");
  }
  const auto is_present = [&](uint64_t page) {
    return std::all_of(entries.begin() + static_cast<ptrdiff_t>(page * host_pages_each),
                       entries.begin() + static_cast<ptrdiff_t>((page + 1) * host_pages_each),
                       [](uint64_t entry) { return (entry & kPresent) != 0; });
  };
  for (uint64_t page = 0; page < piece.run.count;) {
    uint64_t end = page;
    while (end < piece.run.count && is_present(end)) ++end;
    if (end > page) {
      RETURN_IF_ERROR(readable->Add({piece.run.region, piece.run.first + page, end - page},
                                    {begin + page * page_bytes, piece.region->rkey}));
    }
    page = std::max(end, page + 1);
  }
  return absl::OkStatus();
}

}  // namespace faultline
