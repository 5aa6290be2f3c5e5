#include "transport/rdma/registered_memory.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "transport/rdma/memory_lock_limit.h"
#include "transport/rdma/page_tables.h"
#include "transport/rdma/pin_access.h"

namespace faultline {
namespace {

constexpr uint64_t kPieceBytesMax = 64 * 1024 * 1024;
// Beyond them the shortest are left out: their pages are sent.
constexpr size_t kPiecesMax = 16384;

}  // namespace

absl::StatusOr<std::unique_ptr<RegisteredMemory>> RegisteredMemory::Make(
    std::shared_ptr<RdmaDomain> domain, SourceMemory* memory, size_t view, int page_tables) {
  ASSIGN_OR_RETURN(const int access, ChoosePinAccess(domain->pd(), page_tables));
  std::unique_ptr<RegisteredMemory> made(
      new RegisteredMemory(std::move(domain), memory, page_tables, access));
  ASSIGN_OR_RETURN(const AllocationMap map, memory->ReadAllocationMap());
  for (RegionIndex region = 0; region < map.size(); ++region) {
    ASSIGN_OR_RETURN(std::span<std::byte> bytes, memory->Map(region, view));
    made->Plan(region, map[region], bytes);
  }
  made->KeepLongest();
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
    piece.region.reset(ibv_reg_mr(domain_->pd(), piece.bytes.data(), piece.bytes.size(), access_));
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
      local_keys_.emplace(pieces_[i].region->rkey, pieces_[i].region->lkey);
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
  ASSIGN_OR_RETURN(const std::vector<bool> present, ReadPresent(page_tables_, piece.bytes));
  const auto is_present = [&](uint64_t page) {
    for (uint64_t i = page * host_pages_each; i < (page + 1) * host_pages_each; ++i) {
      if (!present[i]) return false;
    }
    return true;
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
