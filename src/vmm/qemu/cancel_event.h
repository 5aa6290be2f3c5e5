// A switch that wakes whoever waits for something else.
#ifndef FAULTLINE_VMM_QEMU_CANCEL_EVENT_H_
#define FAULTLINE_VMM_QEMU_CANCEL_EVENT_H_

#include <cstdint>
#include <memory>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline {

// Thread safety: all methods from any thread.
class CancelEvent {
 public:
  CancelEvent();

  void Set();
  void Reset();
  // Readable while set.
  int fd() const { return event_.get(); }

 private:
  FileDescriptor event_;
};

// A point in time on CLOCK_MONOTONIC, or never.
class Deadline {
 public:
  static Deadline After(int64_t milliseconds);
  static Deadline Never() { return Deadline(INT64_MAX); }

  bool expired() const { return left_ms() == 0; }
  // For poll: rounded up, -1 for never.
  int left_ms() const;

 private:
  explicit Deadline(int64_t at_ns) : at_ns_(at_ns) {}
  int64_t at_ns_;
};

// Waits until `fd` has one of `events` (or an error). Cancelled when `cancel` (may be null) is set,
// DeadlineExceeded at `deadline`; both messages name `what`, which is being waited for.
absl::Status WaitForDescriptor(int fd, short events, const CancelEvent* cancel, Deadline deadline,
                               const char* what);

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_CANCEL_EVENT_H_
