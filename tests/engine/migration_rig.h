// Both real sessions over fakes, on one virtual clock.
#ifndef FAULTLINE_TESTS_ENGINE_MIGRATION_RIG_H_
#define FAULTLINE_TESTS_ENGINE_MIGRATION_RIG_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/destination_session.h"
#include "engine/source_session.h"
#include "fakes/fake_dirty_tracker.h"
#include "fakes/fake_guest_memory.h"
#include "fakes/fake_journal.h"
#include "fakes/fake_network.h"
#include "fakes/fake_source_memory.h"
#include "fakes/fake_transport.h"
#include "fakes/fake_vmm.h"
#include "fakes/manual_executor.h"
#include "fakes/recording_observer.h"

namespace faultline {

// One side's three threads.
struct RigThreads {
  explicit RigThreads(ManualClock* clock, const std::string& side)
      : control(clock, side + " control"),
        demand(clock, side + " demand"),
        bulk(clock, side + " bulk") {}
  ManualExecutor control, demand, bulk;
};

struct RigOptions {
  std::optional<uint64_t> seed;  // mixes the threads' order
  bool vm_running = true;
  bool with_data = true;  // false: the VM never allocated a page
  bool huge_pages = false;
  IntegrityWish source_integrity = IntegrityWish::kDefault;
  IntegrityWish destination_integrity = IntegrityWish::kDefault;
  MigrationMode mode = MigrationMode::kPostCopy;
  PreCopyBudgets budgets;
  bool direct_io = false;
  bool guest_may_discard = true;
  MemoryLayout layout = {{"ram0", 64 * 4096, 4096}, {"ram1", 16 * 4096, 4096}};
};

class MigrationRig {
 public:
  explicit MigrationRig(const RigOptions& options = {});
  ~MigrationRig();

  // Starts the destination, then, once it listens, the source.
  void Start();
  void StartDestination();
  void StartSource();
  // Runs until both have ended (true), or the time is up.
  bool RunToEnd(int64_t limit_us = 60'000'000);
  bool RunUntil(const std::function<bool()>& done, int64_t limit_us = 60'000'000) {
    return clock.RunUntil(done, limit_us);
  }

  // The byte that the source's page holds, where it holds data.
  static std::byte SourceByte(PageId page);
  // The byte that the guest saw there on the source: 0 where the page was never allocated.
  std::byte source_byte(PageId page) const;
  // Every page of the destination holds the source's bytes (absent ones zero).
  void ExpectMemoryMoved() const;
  // The guest on the source fills a page, if its VM runs there; the tracker sees it.
  void WriteOnSource(PageId page, std::byte value);
  // Every page of the destination holds what the source's holds in the end.
  void ExpectMemoryEqual() const;
  // What must hold however it ended.
  void ExpectOneOwner() const;
  // It failed, and the VM is where it was, as it was.
  void ExpectRolledBack() const;
  // It succeeded on both sides.
  void ExpectCompleted() const;

  const RigOptions options;
  ManualClock clock;
  FakeNetwork network{&clock};
  RigThreads source_threads{&clock, "source"};
  RigThreads destination_threads{&clock, "destination"};
  FakeVm vm;
  FakeSourceVmm source_vmm;
  FakeDestinationVmm destination_vmm;
  FakeJournal source_journal, destination_journal;
  RecordingObserver source_observer, destination_observer;
  FakeSourceTransport source_transport;
  FakeDestinationTransport destination_transport;
  absl::Status open_failure;                  // of the source's memory
  absl::Status map_failure;                   // of its allocation map
  absl::Status check_failure;                 // of the destination's memory, before anybody came
  absl::Status arm_failure;                   // of the destination's memory
  FakeGuestMemory* guest = nullptr;           // once armed; outlives the destination's session
  FakeSourceMemory* source_memory = nullptr;  // once opened; the source's session has it
  FakeWrites writes;
  FakeDirtyTrackerFactory tracker_factory{&writes};
  SessionLimits limits;

  std::optional<SessionResult> source_result, destination_result;

 private:
  class SourceFactory;
  class GuestFactory;
  std::unique_ptr<FakeGuestMemory> guest_memory_;

 public:
  std::unique_ptr<SourceMemoryFactory> source_factory;
  std::unique_ptr<GuestMemoryFactory> guest_factory;
  std::unique_ptr<SourceSession> source;
  std::unique_ptr<DestinationSession> destination;
};

// The description of a VM with `layout`.
VmDescription DescribeVm(const MemoryLayout& layout, bool running);

}  // namespace faultline

#endif  // FAULTLINE_TESTS_ENGINE_MIGRATION_RIG_H_
