// The floors' source: answers one page at a time, or sends everything in order.
#include <sys/sendfile.h>

#include <algorithm>
#include <cerrno>
#include <thread>

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

absl::Status Push(const FileDescriptor& socket, const Plan& plan, const Region& region) {
  const uint64_t chunk_bytes = plan.chunk_kib * 1024;
  RETURN_IF_ERROR(plan.sendfile ? SendFile(socket, region, chunk_bytes)
                                : SendChunks(socket, region, chunk_bytes));
  // The destination closes when all is installed.
  std::byte nothing;
  const absl::Status end = ReceiveAll(socket, {&nothing, 1});
  return absl::IsOutOfRange(end) ? absl::OkStatus() : end;
}

}  // namespace

absl::Status RunFloorSource(const Plan& plan, const Region& region) {
  FileDescriptor demand;
  FileDescriptor bulk;
  absl::Status answered;
  std::thread exporter;
  if (plan.measure != Measure::kBulk) {
    ASSIGN_OR_RETURN(demand, Connect(plan.address));
  }
  if (plan.measure != Measure::kFaults) {
    ASSIGN_OR_RETURN(bulk, Connect(plan.address));
  }
  const Waiting waiting = plan.poll_us > 0 ? Waiting::kPolling : Waiting::kBlocking;
  if (demand.valid()) {
    exporter = std::thread([&] { answered = AnswerPages(demand, region, waiting); });
  }
  const absl::Status pushed = bulk.valid() ? Push(bulk, plan, region) : absl::OkStatus();
  if (exporter.joinable()) exporter.join();
  return pushed.ok() ? answered : pushed;
}

}  // namespace faultline::micro
