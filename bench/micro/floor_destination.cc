// The floors' destination: no system call more than it takes; one thread and one connection for the
// faults, and one of each for the bulk.
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/monotonic_time.h"
#include "memory/uffd_setup.h"
#include "micro/sides.h"
#include "micro/sockets.h"
#include "micro/touchers.h"

namespace faultline::bench::micro {
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
  // Serves lane number `lane`: its share of the region.
  FloorDestination(const Plan& plan, const Region& region, int lane, StampTable* stamps)
      : region_(region),
        share_bytes_(region.size_bytes() / static_cast<uint64_t>(plan.lanes)),
        begin_(share_bytes_ * static_cast<uint64_t>(lane)),
        stamps_(stamps),
        waiting_(plan.poll_us > 0 ? Waiting::kPolling : Waiting::kBlocking),
        chunk_bytes_(plan.chunk_kib * 1024),
        page_buffer_(kPageBytes),
        chunk_buffer_(chunk_bytes_) {}

  absl::Status Prepare();
  // Serves faults until all pages have come this way, or until Stop. Returns how many did.
  absl::StatusOr<uint64_t> ServeFaults(const FileDescriptor& socket);
  // The same for what is pushed.
  absl::StatusOr<uint64_t> ReceiveBulk(const FileDescriptor& socket);
  // Any thread.
  void Stop() { eventfd_write(stop_.get(), 1); }

 private:
  // The page of the next fault; nothing after Stop.
  absl::StatusOr<std::optional<uint64_t>> NextFault();
  // Puts `bytes` at `offset`, except pages that are there. Returns how many pages were not.
  absl::StatusOr<uint64_t> Copy(std::span<const std::byte> bytes, uint64_t offset);

  const Region& region_;
  const uint64_t share_bytes_;
  const uint64_t begin_;  // of the share, in the region
  StampTable* const stamps_;
  const Waiting waiting_;
  const size_t chunk_bytes_;
  const Buffer page_buffer_;
  const Buffer chunk_buffer_;
  FileDescriptor uffd_;
  FileDescriptor stop_;
};

absl::Status FloorDestination::Prepare() {
  if (!page_buffer_.valid() || !chunk_buffer_.valid()) {
    return absl::ResourceExhaustedError("no memory for a buffer");
  }
  stop_ = FileDescriptor(eventfd(0, EFD_CLOEXEC));
  if (!stop_.valid()) return ErrnoStatus(errno, "eventfd");
  madvise(region_.data(), region_.size_bytes(), MADV_NOHUGEPAGE);
  ASSIGN_OR_RETURN(uffd_, MakeUffd());
  RETURN_IF_ERROR(SetUpUffd(uffd_.get(), UFFD_FEATURE_MISSING_SHMEM));
  return RegisterMissing(uffd_.get(), reinterpret_cast<uint64_t>(region_.data() + begin_),
                         share_bytes_, "micro")
      .status();
}

absl::StatusOr<std::optional<uint64_t>> FloorDestination::NextFault() {
  while (true) {
    uffd_msg message;
    pollfd waiting[] = {{.fd = uffd_.get(), .events = POLLIN, .revents = 0},
                        {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
    if (waiting_ == Waiting::kBlocking && poll(waiting, 2, -1) < 0) {
      return ErrnoStatus(errno, "poll the userfaultfd");
    }
    if (waiting[1].revents != 0) return std::optional<uint64_t>();
    const ssize_t bytes = read(uffd_.get(), &message, sizeof message);
    if (bytes < 0 && errno == EAGAIN) {
      if (waiting_ == Waiting::kPolling) PauseWhilePolling();
      continue;
    }
    if (bytes != sizeof message || message.event != UFFD_EVENT_PAGEFAULT) {
      return ErrnoStatus(errno, "read the userfaultfd");
    }
    const uint64_t start = reinterpret_cast<uint64_t>(region_.data());
    return std::optional<uint64_t>((message.arg.pagefault.address - start) / kPageBytes);
  }
}

absl::StatusOr<uint64_t> FloorDestination::Copy(std::span<const std::byte> bytes, uint64_t offset) {
  uint64_t pages = 0;
  while (!bytes.empty()) {
    uffdio_copy copy{};
    copy.dst = reinterpret_cast<uint64_t>(region_.data() + offset);
    copy.src = reinterpret_cast<uint64_t>(bytes.data());
    copy.len = bytes.size();
    uint64_t done_bytes = kPageBytes;
    if (ioctl(uffd_.get(), UFFDIO_COPY, &copy) == 0 || copy.copy > 0) {
      done_bytes = static_cast<uint64_t>(copy.copy);
      pages += done_bytes / kPageBytes;
    } else if (errno == EEXIST) {
      uffdio_range range{.start = copy.dst, .len = kPageBytes};
      ioctl(uffd_.get(), UFFDIO_WAKE, &range);
    } else {
      return ErrnoStatus(errno, "UFFDIO_COPY");
    }
    bytes = bytes.subspan(done_bytes);
    offset += done_bytes;
  }
  return pages;
}

absl::StatusOr<uint64_t> FloorDestination::ServeFaults(const FileDescriptor& socket) {
  uint64_t served = 0;
  while (served < share_bytes_ / kPageBytes) {
    ASSIGN_OR_RETURN(const std::optional<uint64_t> page, NextFault());
    if (!page.has_value()) break;
    FaultStamps& stamp = (*stamps_)[*page];
    stamp.read_ns = MonotonicNs();
    RETURN_IF_ERROR(SendAll(socket, std::as_bytes(std::span<const uint64_t>(&*page, 1))));
    stamp.sent_ns = MonotonicNs();
    RETURN_IF_ERROR(ReceiveAll(socket, {page_buffer_.data(), kPageBytes}, waiting_));
    stamp.answered_ns = MonotonicNs();
    ASSIGN_OR_RETURN(const uint64_t installed,
                     Copy({page_buffer_.data(), kPageBytes}, *page * kPageBytes));
    stamp.installed_ns = MonotonicNs();
    served += installed;
  }
  return served;
}

absl::StatusOr<uint64_t> FloorDestination::ReceiveBulk(const FileDescriptor& socket) {
  uint64_t pages = 0;
  const uint64_t end = begin_ + share_bytes_;
  for (uint64_t offset = begin_; offset < end; offset += chunk_bytes_) {
    const std::span<std::byte> chunk(chunk_buffer_.data(),
                                     std::min<uint64_t>(chunk_bytes_, end - offset));
    RETURN_IF_ERROR(ReceiveAll(socket, chunk));
    ASSIGN_OR_RETURN(const uint64_t installed, Copy(chunk, offset));
    pages += installed;
  }
  return pages;
}

std::vector<Stage> Stages(const StampTable& stamps) {
  using S = FaultStamps;
  return {{"touched_to_read", Between(stamps, &S::touched_ns, &S::read_ns)},
          {"read_to_sent", Between(stamps, &S::read_ns, &S::sent_ns)},
          {"sent_to_answered", Between(stamps, &S::sent_ns, &S::answered_ns)},
          {"answered_to_installed", Between(stamps, &S::answered_ns, &S::installed_ns)},
          {"installed_to_woken", Between(stamps, &S::installed_ns, &S::woken_ns)}};
}

// A toucher whose page cannot come waits for good: the process ends all the same.
uint64_t OrExit(const absl::StatusOr<uint64_t>& pages) {
  if (pages.ok()) return *pages;
  fprintf(stderr, "%s\n", MessageOf(pages.status()).c_str());
  _exit(1);
}

double SecondsSince(int64_t begin_ns) {
  return static_cast<double>(MonotonicNs() - begin_ns) / 1e9;
}

// One lane's end of the connections, and the threads that serve them.
struct Lane {
  std::unique_ptr<FloorDestination> floor;
  FileDescriptor demand;
  FileDescriptor bulk;
  uint64_t pages_demand = 0;
  uint64_t pages_pushed = 0;
  std::thread handler;
  std::thread receiver;
};

absl::StatusOr<std::vector<Lane>> MakeLanes(const Plan& plan, const Region& region,
                                            StampTable* stamps) {
  std::vector<Lane> lanes(static_cast<size_t>(plan.lanes));
  for (int i = 0; i < plan.lanes; ++i) {
    Lane& lane = lanes[static_cast<size_t>(i)];
    lane.floor = std::make_unique<FloorDestination>(plan, region, i, stamps);
    RETURN_IF_ERROR(lane.floor->Prepare());
  }
  return lanes;
}

// The source connects in the same order.
absl::Status AcceptLanes(const Plan& plan, const FileDescriptor& listener,
                         std::vector<Lane>* lanes) {
  for (Lane& lane : *lanes) {
    if (plan.measure != Measure::kBulk) {
      ASSIGN_OR_RETURN(lane.demand, Accept(listener));
    }
    if (plan.measure != Measure::kFaults) {
      ASSIGN_OR_RETURN(lane.bulk, Accept(listener));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DestinationFigures> RunFloorDestination(const Plan& plan, const Region& region,
                                                       StampTable* stamps,
                                                       const Listening& listening) {
  ASSIGN_OR_RETURN(std::vector<Lane> lanes, MakeLanes(plan, region, stamps));
  std::string address;
  ASSIGN_OR_RETURN(const FileDescriptor listener, Listen(plan.address, &address));
  listening(address);
  RETURN_IF_ERROR(AcceptLanes(plan, listener, &lanes));
  const bool has_faults = plan.measure != Measure::kBulk;
  const bool has_bulk = plan.measure != Measure::kFaults;
  DestinationFigures figures;
  Touchers touchers(plan, &region, stamps);
  const int64_t begin_ns = MonotonicNs();
  if (has_faults) touchers.Start();
  for (Lane& lane : lanes) {
    if (has_faults) {
      lane.handler = std::thread(
          [&lane] { lane.pages_demand = OrExit(lane.floor->ServeFaults(lane.demand)); });
    }
    if (has_bulk) {
      lane.receiver =
          std::thread([&lane] { lane.pages_pushed = OrExit(lane.floor->ReceiveBulk(lane.bulk)); });
    }
  }
  for (Lane& lane : lanes) {
    if (has_bulk) lane.receiver.join();
  }
  if (has_bulk) figures.transfer_seconds = SecondsSince(begin_ns);
  if (has_faults) touchers.Join();
  for (Lane& lane : lanes) {
    if (has_faults && has_bulk) lane.floor->Stop();
    if (has_faults) lane.handler.join();
    figures.pages_demand += lane.pages_demand;
    figures.pages_pushed += lane.pages_pushed;
  }
  if (!has_bulk) figures.transfer_seconds = SecondsSince(begin_ns);
  if (has_faults) {
    figures.toucher_cpu_seconds = touchers.cpu_seconds();
    figures.stages = Stages(*stamps);
  }
  return figures;
}

}  // namespace faultline::bench::micro
