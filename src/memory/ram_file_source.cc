#include "memory/ram_file_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/file_descriptor.h"

namespace faultline {

absl::StatusOr<std::unique_ptr<RamFileSource>> RamFileSource::Make(const VmDescription& vm) {
  RETURN_IF_ERROR(ValidateLayout(vm.layout()));
  std::vector<Region> regions;
  for (const RamRegion& ram : vm.regions) {
    if (ram.file < 0) {
      return absl::FailedPreconditionError(
          fmt::format("RAM block '{}' has no file to read it through; give the source a "
                      "memory-backend-file with share=on",
                      ram.layout.name));
    }
    ASSIGN_OR_RETURN(RamFileKind kind, KindOfRamFile(ram.file));
    RETURN_IF_ERROR(CheckRamFile(ram, kind));
    regions.push_back({ram, kind});
  }
  return std::unique_ptr<RamFileSource>(new RamFileSource(std::move(regions)));
}

RamFileSource::RamFileSource(std::vector<Region> regions) : regions_(std::move(regions)) {
  for (const Region& region : regions_) layout_.push_back(region.ram.layout);
}

absl::StatusOr<AllocationMap> RamFileSource::ReadAllocationMap() {
  AllocationMap map;
  for (const Region& region : regions_) {
    ASSIGN_OR_RETURN(PageRangeSet pages, ReadDataPages(region.ram, region.kind));
    map.push_back(std::move(pages));
  }
  return map;
}

absl::Status RamFileSource::Read(RegionIndex region, uint64_t offset_bytes,
                                 std::span<std::byte> out) const {
  FAULTLINE_CHECK(region < regions_.size());
  const RamRegion& ram = regions_[region].ram;
  FAULTLINE_CHECK(offset_bytes + out.size() <= ram.layout.size_bytes);
  while (!out.empty()) {
    ssize_t got = pread(ram.file, out.data(), out.size(),
                        static_cast<off_t>(ram.file_offset_bytes + offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return ErrnoStatus(got < 0 ? errno : ENODATA,
                         fmt::format("read the RAM file of '{}'", ram.layout.name));
    }
    out = out.subspan(static_cast<size_t>(got));
    offset_bytes += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<std::byte>> RamFileSource::Map(RegionIndex region, size_t view) {
  FAULTLINE_CHECK(region < regions_.size());
  while (views_.size() <= view) views_.emplace_back(regions_.size());
  Mapping& mapped = views_[view][region];
  if (mapped.bytes().empty()) {
    const RamRegion& ram = regions_[region].ram;
    const std::string path = fmt::format("/proc/self/fd/{}", ram.file);
    const FileDescriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
    absl::StatusOr<Mapping> mapping =
        file.valid() ? Mapping::MapFile(file.get(), ram.file_offset_bytes, ram.layout.size_bytes,
                                        /*writable=*/true, "the RAM file")
                     : ErrnoStatus(errno, "open the RAM file for writing");
    if (!mapping.ok()) {
      return absl::FailedPreconditionError(fmt::format(
          "RDMA pins RAM block '{}' through a mapping that may write, which this process may not "
          "make ({}): run it as a user who may write that file, or use tcp://",
          ram.layout.name, MessageOf(mapping.status())));
    }
    mapped = std::move(*mapping);
  }
  return mapped.bytes();
}

absl::StatusOr<std::unique_ptr<SourceMemory>> RamFileSourceFactory::Open(const VmDescription& vm) {
  ASSIGN_OR_RETURN(std::unique_ptr<RamFileSource> source, RamFileSource::Make(vm));
  return source;
}

}  // namespace faultline
