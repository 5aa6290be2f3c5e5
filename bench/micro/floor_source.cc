// The floors' source: answers one page at a time, or sends everything in order.
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <vector>

#include "micro/sides.h"
#include "micro/sockets.h"

namespace faultline::bench::micro {
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

absl::Status SendChunks(const FileDescriptor& socket, const Region& region, uint64_t offset,
                        uint64_t end, uint64_t chunk_bytes) {
  for (; offset < end; offset += chunk_bytes) {
    RETURN_IF_ERROR(SendAll(socket, {region.data() + offset, std::min(chunk_bytes, end - offset)}));
  }
  return absl::OkStatus();
}

absl::Status SendFile(const FileDescriptor& socket, const Region& region, uint64_t begin,
                      uint64_t end, uint64_t chunk_bytes) {
  auto offset = static_cast<off_t>(begin);
  while (static_cast<uint64_t>(offset) < end) {
    const uint64_t left = end - static_cast<uint64_t>(offset);
    if (sendfile(socket.get(), region.file(), &offset, std::min(chunk_bytes, left)) <= 0) {
      return ErrnoStatus(errno, "sendfile from the region");
    }
  }
  return absl::OkStatus();
}

absl::Status SendCopies(const FileDescriptor& socket, const Region& region, uint64_t offset,
                        uint64_t end, uint64_t chunk_bytes) {
  std::vector<std::byte> copy(chunk_bytes);
  while (offset < end) {
    const ssize_t got = pread(region.file(), copy.data(), std::min(chunk_bytes, end - offset),
                              static_cast<off_t>(offset));
    if (got <= 0) return ErrnoStatus(errno, "read from the region");
    RETURN_IF_ERROR(SendAll(socket, {copy.data(), static_cast<size_t>(got)}));
    offset += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::Status SendShare(const FileDescriptor& socket, const Plan& plan, const Region& region,
                       uint64_t begin, uint64_t end) {
  const uint64_t chunk_bytes = plan.chunk_kib * 1024;
  switch (plan.sends_from) {
    case SendsFrom::kMapping:
      return SendChunks(socket, region, begin, end, chunk_bytes);
    case SendsFrom::kFile:
      return SendFile(socket, region, begin, end, chunk_bytes);
    case SendsFrom::kCopy:
      return SendCopies(socket, region, begin, end, chunk_bytes);
  }
  return absl::InternalError("no such way to send");
}

// Lane number `lane`'s share of the region.
absl::Status Push(const FileDescriptor& socket, const Plan& plan, const Region& region,
                  uint64_t lane) {
  const uint64_t share_bytes = region.size_bytes() / static_cast<uint64_t>(plan.lanes);
  const uint64_t begin = lane * share_bytes;
  RETURN_IF_ERROR(SendShare(socket, plan, region, begin, begin + share_bytes));
  // The destination closes when all is installed.
  std::byte nothing;
  const absl::Status ended = ReceiveAll(socket, {&nothing, 1});
  return absl::IsOutOfRange(ended) ? absl::OkStatus() : ended;
}

struct SourceLane {
  FileDescriptor demand;
  FileDescriptor bulk;
  absl::Status answered;
  absl::Status pushed;
  std::thread exporter;
  std::thread pusher;
};

}  // namespace

absl::Status RunFloorSource(const Plan& plan, const Region& region) {
  std::vector<SourceLane> lanes(static_cast<size_t>(plan.lanes));
  for (SourceLane& lane : lanes) {
    if (plan.measure != Measure::kBulk) {
      ASSIGN_OR_RETURN(lane.demand, Connect(plan.address));
    }
    if (plan.measure != Measure::kFaults) {
      ASSIGN_OR_RETURN(lane.bulk, Connect(plan.address));
    }
  }
  const Waiting waiting = plan.poll_us > 0 ? Waiting::kPolling : Waiting::kBlocking;
  for (size_t i = 0; i < lanes.size(); ++i) {
    SourceLane& lane = lanes[i];
    if (lane.demand.valid()) {
      lane.exporter = std::thread(
          [&lane, &region, waiting] { lane.answered = AnswerPages(lane.demand, region, waiting); });
    }
    if (lane.bulk.valid()) {
      lane.pusher = std::thread(
          [&lane, &plan, &region, i] { lane.pushed = Push(lane.bulk, plan, region, i); });
    }
  }
  absl::Status status;
  for (SourceLane& lane : lanes) {
    if (lane.exporter.joinable()) lane.exporter.join();
    if (lane.pusher.joinable()) lane.pusher.join();
    status.Update(lane.pushed);
    status.Update(lane.answered);
  }
  return status;
}

}  // namespace faultline::bench::micro
