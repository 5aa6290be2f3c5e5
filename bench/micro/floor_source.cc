// The floors' source: answers one page at a time, or sends everything in order.
#include <sys/sendfile.h>

#include <algorithm>
#include <cerrno>

#include "micro/sides.h"
#include "micro/sockets.h"

namespace faultline::micro {
namespace {

absl::Status AnswerPages(const FileDescriptor& socket, const Region& region, Waiting waiting) {
  while (true) {
    uint64_t page = 0;
    absl::Status status =
        ReceiveAll(socket, std::as_writable_bytes(std::span<uint64_t>(&page, 1)), waiting);
    if (absl::IsOutOfRange(status)) return absl::OkStatus();
    RETURN_IF_ERROR(status);
    if (page >= region.pages()) return absl::InvalidArgumentError("a request beyond the region");
    RETURN_IF_ERROR(SendAll(socket, {region.page(page), kPageBytes}));
  }
}

absl::Status SendChunks(const FileDescriptor& socket, const Region& region, uint64_t chunk_bytes) {
  for (uint64_t offset = 0; offset < region.size_bytes(); offset += chunk_bytes) {
    const uint64_t bytes = std::min(chunk_bytes, region.size_bytes() - offset);
    RETURN_IF_ERROR(SendAll(socket, {region.data() + offset, bytes}));
  }
  return absl::OkStatus();
}

absl::Status SendFile(const FileDescriptor& socket, const Region& region, uint64_t chunk_bytes) {
  off_t offset = 0;
  while (static_cast<uint64_t>(offset) < region.size_bytes()) {
    const uint64_t left = region.size_bytes() - static_cast<uint64_t>(offset);
    if (sendfile(socket.get(), region.file(), &offset, std::min(chunk_bytes, left)) <= 0) {
      return ErrnoStatus(errno, "sendfile from the region");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunFloorSource(const Plan& plan, const Region& region) {
  ASSIGN_OR_RETURN(const FileDescriptor socket, Connect(plan.address));
  const uint64_t chunk_bytes = plan.chunk_kib * 1024;
  if (plan.measure == Measure::kFaults) {
    return AnswerPages(socket, region, plan.poll_us > 0 ? Waiting::kPolling : Waiting::kBlocking);
  }
  RETURN_IF_ERROR(plan.sendfile ? SendFile(socket, region, chunk_bytes)
                                : SendChunks(socket, region, chunk_bytes));
  // The destination closes when all is installed.
  std::byte nothing;
  const absl::Status end = ReceiveAll(socket, {&nothing, 1});
  return absl::IsOutOfRange(end) ? absl::OkStatus() : end;
}

}  // namespace faultline::micro
