// Takes hold of a destination's memory with userfaultfd.
#ifndef FAULTLINE_MEMORY_UFFD_GUEST_MEMORY_FACTORY_H_
#define FAULTLINE_MEMORY_UFFD_GUEST_MEMORY_FACTORY_H_

#include <memory>
#include <optional>

#include "memory/memory_armer.h"
#include "memory/ram_file_users.h"
#include "memory/uffd_memory.h"
#include "seams/fd_poller.h"
#include "seams/guest_memory.h"

namespace faultline {

struct UffdGuestMemoryOptions {
  // The VM waits for an incoming migration and has no memory of its own yet: what its RAM files
  // hold are leftovers.
  bool may_punch_leftovers = false;
};

class UffdGuestMemoryFactory : public GuestMemoryFactory {
 public:
  // `armer` and `poller` (of the executor that will read the events) outlive the memory made here.
  UffdGuestMemoryFactory(MemoryArmer* armer, FdPoller* poller, UffdGuestMemoryOptions options)
      : armer_(armer), poller_(poller), options_(options) {}

  absl::Status Check(const VmDescription& vm) override;
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& vm) override;
  absl::StatusOr<std::unique_ptr<GuestMemory>> TakeOver(const VmDescription& vm) override;
  // The same, for a caller that needs more than the seam has; an error if nothing is armed.
  // `poller` may be null if no events are watched.
  absl::StatusOr<std::unique_ptr<UffdMemory>> TakeOverUffd(const VmDescription& vm);

 private:
  // Everything but emptiness: files, who else uses them, room.
  absl::StatusOr<FileUsers> CheckHost(const VmDescription& vm);
  // NotFound: nothing is armed.
  absl::StatusOr<TakenMemory> Take(const VmDescription& vm);
  absl::StatusOr<std::unique_ptr<UffdMemory>> Use(TakenMemory taken, const VmDescription& vm);

  MemoryArmer* const armer_;
  FdPoller* const poller_;
  const UffdGuestMemoryOptions options_;
  std::optional<int> vm_process_id_;  // once attached
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_UFFD_GUEST_MEMORY_FACTORY_H_
