// Watching a descriptor for readability on an executor.
#ifndef FAULTLINE_SEAMS_FD_POLLER_H_
#define FAULTLINE_SEAMS_FD_POLLER_H_

#include <memory>

#include "seams/executor.h"

namespace faultline {

// A descriptor being watched. Destroying it ends the watch: its task does not run afterwards. Own
// executor's thread only.
class FdWatch {
 public:
  virtual ~FdWatch() = default;
};

// Belongs to one executor (a libuv loop implements both).
class FdPoller {
 public:
  virtual ~FdPoller() = default;
  // Runs `on_readable` on the executor's thread for as long as `fd` is readable, hung up or in
  // error (level-triggered). The task may destroy the watch. `fd` must be non-blocking, stays the
  // caller's, and must stay open until the watch is destroyed. Own executor's thread only.
  virtual std::unique_ptr<FdWatch> WatchReadable(int fd, Task on_readable) = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_FD_POLLER_H_
