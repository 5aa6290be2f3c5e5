// Arms the memory of a QEMU through the hook inside it.
#ifndef FAULTLINE_MEMORY_HOOK_ARMER_H_
#define FAULTLINE_MEMORY_HOOK_ARMER_H_

#include <optional>
#include <string>

#include "memory/hook_client.h"
#include "memory/memory_armer.h"

namespace faultline {

// Holds the hook's connection from Attach to its own end, so that no other engine gets it. Whoever
// serves the socket gets the VM's memory, so Arm and Take refuse (PermissionDenied) a user who is
// not the VM's.
class HookArmer : public MemoryArmer {
 public:
  // `path` is the hook's socket. Each request waits at most `timeout_ms`.
  HookArmer(std::string path, int timeout_ms) : path_(std::move(path)), timeout_ms_(timeout_ms) {}

  absl::StatusOr<int> Attach() override;
  // The regions must have files: the hook finds them by those.
  absl::StatusOr<ArmedMemory> Arm(std::span<const RamRegion> regions,
                                  const FileDescriptor& page_state_memfd,
                                  uint64_t features) override;
  // The regions' files must be those that were armed, in the same order.
  absl::StatusOr<TakenMemory> Take(std::span<const RamRegion> regions) override;
  absl::Status Release() override;

 private:
  std::string path_;
  int timeout_ms_;
  std::optional<HookClient> client_;  // from Attach on
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_HOOK_ARMER_H_
