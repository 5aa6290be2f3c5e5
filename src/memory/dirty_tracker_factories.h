// Taking hold of a VM's memory for dirty tracking: through the hook inside it, or in this process.
#ifndef FAULTLINE_MEMORY_DIRTY_TRACKER_FACTORIES_H_
#define FAULTLINE_MEMORY_DIRTY_TRACKER_FACTORIES_H_

#include <memory>
#include <string>

#include "seams/dirty_tracker.h"

namespace faultline {

// By write protection, or by soft-dirty bits where the kernel has only those. The tracker (of the
// first kind) holds the hook's connection, so that no other engine gets it; when that ends, however
// it ends, the hook takes all protection away.
class HookDirtyTrackerFactory : public DirtyTrackerFactory {
 public:
  // `path` is the hook's socket in the source VM. Each request waits at most `timeout_ms`.
  HookDirtyTrackerFactory(std::string path, int timeout_ms)
      : path_(std::move(path)), timeout_ms_(timeout_ms) {}

  absl::StatusOr<std::unique_ptr<DirtyTracker>> Open(const VmDescription& vm) override;

 private:
  const std::string path_;
  const int timeout_ms_;
};

// For a VM whose RAM is mapped in this very process: the regions' host addresses must be known.
class LocalDirtyTrackerFactory : public DirtyTrackerFactory {
 public:
  absl::StatusOr<std::unique_ptr<DirtyTracker>> Open(const VmDescription& vm) override;
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_DIRTY_TRACKER_FACTORIES_H_
