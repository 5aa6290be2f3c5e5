// Guest memory behind a userfaultfd: events are read from it, pages land by UFFDIO_COPY.
#ifndef FAULTLINE_MEMORY_UFFD_MEMORY_H_
#define FAULTLINE_MEMORY_UFFD_MEMORY_H_

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "base/file_descriptor.h"
#include "memory/address_map.h"
#include "memory/mapping.h"
#include "memory/memory_armer.h"
#include "memory/page_state_memfd.h"
#include "seams/fd_poller.h"
#include "seams/guest_memory.h"
#include "seams/vm_description.h"

struct uffd_msg;

namespace faultline {

// Thread safety: Install, InstallZeros, Punch and Wake from any thread at any time; the rest on the
// poller's thread. Nothing here takes a lock, so reading events never waits for an installation.
class UffdMemory : public GuestMemory {
 public:
  // `regions` names the files to punch (a region without one is anonymous memory). `armer` may be
  // null: nobody has to be told of the end. `poller`, `armer` and the regions' files outlive it.
  static absl::StatusOr<std::unique_ptr<UffdMemory>> Make(std::span<const RamRegion> regions,
                                                          ArmedMemory armed,
                                                          PageStateMemfd page_state,
                                                          FdPoller* poller, MemoryArmer* armer);

  // With pages missing and no Disarm before it, the descriptor stays open in this process for good:
  // closing the last one would turn those pages into zeros.
  ~UffdMemory() override;

  PageTable& table() override { return page_state_.table(); }
  void StartEvents(Listener* listener) override;
  void StopEvents() override;
  absl::Status ReadEvents(MemoryEvents* events) override;
  InstallResult Install(PageRun run, std::span<const std::byte> data) override;
  InstallResult InstallZeros(PageRun run) override;
  // Whether the kernel lets pages be poisoned in every region (Linux 6.6).
  bool CanPoison() const;
  // Makes the pages of `run` an error (SIGBUS) for whoever touches them, and wakes who waits for
  // one. kPresent: something is there, or it is poisoned already. CanPoison must be true.
  InstallResult Poison(PageRun run);
  // Anonymous memory needs no punching: the kernel itself takes away what landed in the range
  // between the event's reading and the guest's going on.
  absl::Status Punch(PageRun run) override;
  // Needs RAM files. In tmpfs by whole-page pwrite; hugetlbfs, which knows no write, by punching
  // the pages and copying them in anew.
  absl::Status CheckPreCopy() const override;
  absl::Status Overwrite(PageRun run, std::span<const std::byte> data) override;
  absl::Status MakeMissing(PageRun run) override;
  absl::Status Wake(PageRun run) override;
  absl::StatusOr<std::string> Disarm() override;
  std::unique_ptr<HugePageMaker> MakeHugePageMaker() override;

 private:
  struct Region {
    uint64_t ioctls = 0;
    int file = -1;
    uint64_t file_offset_bytes = 0;
    std::string name;
  };

  UffdMemory(AddressMap addresses, std::vector<Region> regions, FileDescriptor uffd,
             FileDescriptor process, PageStateMemfd page_state, Mapping zeros, FdPoller* poller,
             MemoryArmer* armer);

  // What one installing ioctl did with `length_bytes` at `address`: bytes landed, else an errno.
  struct Landed {
    uint64_t bytes = 0;
    int error_number = 0;
  };
  Landed Copy(uint64_t address, const std::byte* data, uint64_t length_bytes) const;
  Landed ZeroPage(uint64_t address, uint64_t length_bytes) const;
  Landed PoisonPages(uint64_t address, uint64_t length_bytes) const;
  // After EEXIST: whether a page is really there. In hugetlbfs the kernel (6.18 still) gives the
  // same answer when its pool of huge pages is empty.
  bool IsThere(PageId page) const;
  // Calls `land(offset_bytes)` until `run` is in or something stops it.
  template <typename Land>
  InstallResult InstallAll(PageRun run, Land land);
  absl::Status PutAnew(PageRun run, std::span<const std::byte> data);
  absl::Status ReserveAnew(PageRun run) const;
  absl::Status Apply(const uffd_msg& message, MemoryEvents* events) const;

  const AddressMap addresses_;
  const std::vector<Region> regions_;
  FileDescriptor uffd_;
  const FileDescriptor process_;  // a pidfd of the VM's; may be none
  const PageStateMemfd page_state_;
  const Mapping zeros_;  // as long as the largest page, or 1 MiB
  FdPoller* const poller_;
  MemoryArmer* const armer_;
  std::atomic<bool> disarmed_{false};
  std::unique_ptr<FdWatch> watch_;  // poller's thread
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_UFFD_MEMORY_H_
