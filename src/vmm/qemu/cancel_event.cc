#include "vmm/qemu/cancel_event.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "base/check.h"

namespace faultline {
namespace {

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

CancelEvent::CancelEvent() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  FAULTLINE_CHECK(event_.valid());
}

void CancelEvent::Set() {
  uint64_t one = 1;
  // A full counter means that it is set already.
  [[maybe_unused]] ssize_t written = write(event_.get(), &one, sizeof(one));
}

void CancelEvent::Reset() {
  uint64_t count;
  [[maybe_unused]] ssize_t got = read(event_.get(), &count, sizeof(count));
}

Deadline Deadline::After(int64_t milliseconds) {
  return Deadline(NowNs() + milliseconds * 1000000);
}

int Deadline::left_ms() const {
  if (at_ns_ == INT64_MAX) return -1;
  int64_t left_ns = at_ns_ - NowNs();
  return left_ns <= 0 ? 0 : static_cast<int>((left_ns + 999999) / 1000000);
}

absl::Status WaitForDescriptor(int fd, short events, const CancelEvent* cancel, Deadline deadline,
                               const char* what) {
  std::array<pollfd, 2> fds = {pollfd{fd, events, 0},
                               pollfd{cancel != nullptr ? cancel->fd() : -1, POLLIN, 0}};
  while (true) {
    int ready = poll(fds.data(), fds.size(), deadline.left_ms());
    if (ready < 0 && errno != EINTR) return ErrnoStatus(errno, fmt::format("wait for {}", what));
    if (ready > 0 && fds[1].revents != 0) {
      return absl::CancelledError(fmt::format("waiting for {} was cancelled", what));
    }
    if (ready > 0 && fds[0].revents != 0) return absl::OkStatus();
    if (ready <= 0 && deadline.expired()) {
      return absl::DeadlineExceededError(fmt::format("timed out waiting for {}", what));
    }
  }
}

}  // namespace faultline
