// The floors' destination: one thread, one connection, and no system call more than it takes.
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/monotonic_time.h"
#include "memory/uffd_setup.h"
#include "micro/sides.h"
#include "micro/sockets.h"
#include "micro/touchers.h"

namespace faultline::micro {
namespace {

// Page-aligned memory to receive into.
class Buffer {
 public:
  explicit Buffer(size_t bytes)
      : bytes_(bytes),
        data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Buffer() {
    if (valid()) munmap(data_, bytes_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  bool valid() const { return data_ != MAP_FAILED; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  const size_t bytes_;
  void* const data_;
};

class FloorDestination {
 public:
  FloorDestination(const Plan& plan, const Region& region, StampTable* stamps)
      : plan_(plan),
        region_(region),
        stamps_(stamps),
        waiting_(plan.poll_us > 0 ? Waiting::kPolling : Waiting::kBlocking),
        buffer_bytes_(std::max(plan.chunk_kib * 1024, kPageBytes)),
        buffer_(buffer_bytes_) {}

  absl::Status Prepare();
  absl::Status ServeFaults(const FileDescriptor& socket);
  absl::Status ReceiveBulk(const FileDescriptor& socket);

 private:
  absl::StatusOr<uint64_t> NextFault();
  absl::Status Copy(uint64_t offset, uint64_t bytes);

  const Plan& plan_;
  const Region& region_;
  StampTable* const stamps_;
  const Waiting waiting_;
  const size_t buffer_bytes_;
  const Buffer buffer_;
  FileDescriptor uffd_;
};

absl::Status FloorDestination::Prepare() {
  if (!buffer_.valid()) return absl::ResourceExhaustedError("no memory for a buffer");
  madvise(region_.data(), region_.size_bytes(), MADV_NOHUGEPAGE);
  ASSIGN_OR_RETURN(uffd_, MakeUffd());
  RETURN_IF_ERROR(SetUpUffd(uffd_.get(), UFFD_FEATURE_MISSING_SHMEM));
  return RegisterMissing(uffd_.get(), reinterpret_cast<uint64_t>(region_.data()),
                         region_.size_bytes(), "micro")
      .status();
}

absl::StatusOr<uint64_t> FloorDestination::NextFault() {
  while (true) {
    uffd_msg message;
    pollfd waiting{.fd = uffd_.get(), .events = POLLIN, .revents = 0};
    if (waiting_ == Waiting::kBlocking && poll(&waiting, 1, -1) < 0) {
      return ErrnoStatus(errno, "poll the userfaultfd");
    }
    const ssize_t bytes = read(uffd_.get(), &message, sizeof message);
    if (bytes < 0 && errno == EAGAIN) {
      if (waiting_ == Waiting::kPolling) PauseWhilePolling();
      continue;
    }
    if (bytes != sizeof message || message.event != UFFD_EVENT_PAGEFAULT) {
      return ErrnoStatus(errno, "read the userfaultfd");
    }
    const uint64_t start = reinterpret_cast<uint64_t>(region_.data());
    return (message.arg.pagefault.address - start) / kPageBytes;
  }
}

absl::Status FloorDestination::Copy(uint64_t offset, uint64_t bytes) {
  uffdio_copy copy{};
  copy.dst = reinterpret_cast<uint64_t>(region_.data() + offset);
  copy.src = reinterpret_cast<uint64_t>(buffer_.data());
  copy.len = bytes;
  if (ioctl(uffd_.get(), UFFDIO_COPY, &copy) < 0) return ErrnoStatus(errno, "UFFDIO_COPY");
  return absl::OkStatus();
}

absl::Status FloorDestination::ServeFaults(const FileDescriptor& socket) {
  for (uint64_t served = 0; served < region_.pages(); ++served) {
    ASSIGN_OR_RETURN(uint64_t page, NextFault());
    FaultStamps& stamp = (*stamps_)[page];
    stamp.read_ns = MonotonicNs();
    RETURN_IF_ERROR(SendAll(socket, std::as_bytes(std::span<const uint64_t>(&page, 1))));
    stamp.sent_ns = MonotonicNs();
    RETURN_IF_ERROR(ReceiveAll(socket, {buffer_.data(), kPageBytes}, waiting_));
    stamp.answered_ns = MonotonicNs();
    RETURN_IF_ERROR(Copy(page * kPageBytes, kPageBytes));
    stamp.installed_ns = MonotonicNs();
  }
  return absl::OkStatus();
}

absl::Status FloorDestination::ReceiveBulk(const FileDescriptor& socket) {
  for (uint64_t offset = 0; offset < region_.size_bytes(); offset += buffer_bytes_) {
    const uint64_t bytes = std::min<uint64_t>(buffer_bytes_, region_.size_bytes() - offset);
    RETURN_IF_ERROR(ReceiveAll(socket, {buffer_.data(), bytes}));
    RETURN_IF_ERROR(Copy(offset, bytes));
  }
  return absl::OkStatus();
}

std::vector<Stage> Stages(const StampTable& stamps) {
  using S = FaultStamps;
  return {{"touched_to_read", Between(stamps, &S::touched_ns, &S::read_ns)},
          {"read_to_sent", Between(stamps, &S::read_ns, &S::sent_ns)},
          {"sent_to_answered", Between(stamps, &S::sent_ns, &S::answered_ns)},
          {"answered_to_installed", Between(stamps, &S::answered_ns, &S::installed_ns)},
          {"installed_to_woken", Between(stamps, &S::installed_ns, &S::woken_ns)}};
}

}  // namespace

absl::StatusOr<DestinationFigures> RunFloorDestination(const Plan& plan, const Region& region,
                                                       StampTable* stamps,
                                                       const Listening& listening) {
  if (plan.measure == Measure::kPush) {
    return absl::InvalidArgumentError("no floor pushes and serves faults at once");
  }
  FloorDestination floor(plan, region, stamps);
  RETURN_IF_ERROR(floor.Prepare());
  std::string address;
  ASSIGN_OR_RETURN(const FileDescriptor listener, Listen(plan.address, &address));
  listening(address);
  ASSIGN_OR_RETURN(const FileDescriptor socket, Accept(listener));
  DestinationFigures figures;
  const int64_t begin_ns = MonotonicNs();
  if (plan.measure == Measure::kBulk) {
    RETURN_IF_ERROR(floor.ReceiveBulk(socket));
    figures.pages_pushed = region.pages();
    figures.transfer_seconds = static_cast<double>(MonotonicNs() - begin_ns) / 1e9;
    return figures;
  }
  Touchers touchers(plan, &region, stamps);
  touchers.Start();
  // A toucher whose page cannot come waits for good: the process ends all the same.
  if (absl::Status status = floor.ServeFaults(socket); !status.ok()) {
    fprintf(stderr, "%s\n", MessageOf(status).c_str());
    _exit(1);
  }
  figures.transfer_seconds = static_cast<double>(MonotonicNs() - begin_ns) / 1e9;
  touchers.Join();
  figures.toucher_cpu_seconds = touchers.cpu_seconds();
  figures.pages_demand = region.pages();
  figures.stages = Stages(*stamps);
  return figures;
}

}  // namespace faultline::micro
