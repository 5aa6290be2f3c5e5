#include "memory/ram_dump.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include "memory/ram_file.h"

namespace faultline {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

PageRangeSet MissingPages(const PageTable& table, RegionIndex region, const PageRangeSet& there) {
  PageRangeSet missing;
  const uint64_t page_count = table.layout()[region].page_count();
  for (uint64_t page = 0; page < page_count;) {
    PageRun run = table.FindMissing({region, page, page_count - page});
    if (run.empty()) break;
    missing.Add(run.first, run.end());
    page = run.end();
  }
  there.ForEach([&](PageRange range) { missing.Remove(range.first, range.end); });
  return missing;
}

absl::Status ReadPiece(const RamRegion& ram, uint64_t offset_bytes, std::span<std::byte> piece) {
  while (!piece.empty()) {
    ssize_t got = pread(ram.file, piece.data(), piece.size(),
                        static_cast<off_t>(ram.file_offset_bytes + offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return ErrnoStatus(got < 0 ? errno : ENODATA,
                         fmt::format("read the RAM file of '{}'", ram.layout.name));
    }
    piece = piece.subspan(static_cast<size_t>(got));
    offset_bytes += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::Status WritePiece(int file, uint64_t offset_bytes, std::span<const std::byte> piece,
                        const std::string& name) {
  while (!piece.empty()) {
    ssize_t put = pwrite(file, piece.data(), piece.size(), static_cast<off_t>(offset_bytes));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      return ErrnoStatus(put < 0 ? errno : ENOSPC, fmt::format("write '{}' into the dump", name));
    }
    piece = piece.subspan(static_cast<size_t>(put));
    offset_bytes += static_cast<uint64_t>(put);
  }
  return absl::OkStatus();
}

absl::Status CopyRegion(const RamRegion& ram, const PageRangeSet& there, int file,
                        uint64_t dump_offset_bytes) {
  std::vector<std::byte> buffer(kPieceBytes);
  absl::Status status;
  there.ForEach([&](PageRange range) {
    const uint64_t page_bytes = ram.layout.page_size_bytes;
    const uint64_t end_bytes = range.end * page_bytes;
    for (uint64_t at = range.first * page_bytes; at < end_bytes && status.ok();) {
      std::span<std::byte> piece(buffer.data(), std::min<uint64_t>(kPieceBytes, end_bytes - at));
      status = ReadPiece(ram, at, piece);
      if (status.ok()) status = WritePiece(file, dump_offset_bytes + at, piece, ram.layout.name);
      at += piece.size();
    }
  });
  return status;
}

}  // namespace

absl::StatusOr<std::vector<DumpedRegion>> DumpRam(const VmDescription& vm, const PageTable& table,
                                                  int file) {
  if (ftruncate(file, static_cast<off_t>(TotalBytes(vm.layout()))) < 0) {
    return ErrnoStatus(errno, "make the dump as long as the VM's memory");
  }
  std::vector<DumpedRegion> dumped;
  uint64_t offset_bytes = 0;
  for (RegionIndex region = 0; region < vm.regions.size(); ++region) {
    const RamRegion& ram = vm.regions[region];
    ASSIGN_OR_RETURN(RamFileKind kind, KindOfRamFile(ram.file));
    ASSIGN_OR_RETURN(PageRangeSet there, ReadDataPages(ram, kind));
    RETURN_IF_ERROR(CopyRegion(ram, there, file, offset_bytes));
    dumped.push_back({.layout = ram.layout,
                      .offset_bytes = offset_bytes,
                      .missing = MissingPages(table, region, there)});
    offset_bytes += ram.layout.size_bytes;
  }
  if (fsync(file) < 0) return ErrnoStatus(errno, "write the dump to its disk");
  return dumped;
}

}  // namespace faultline
