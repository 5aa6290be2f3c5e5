// The destination's memory as the engine gets it: every call is held against the rules.
#ifndef FAULTLINE_TESTS_SIM_CHECKED_MEMORY_H_
#define FAULTLINE_TESTS_SIM_CHECKED_MEMORY_H_

#include <functional>
#include <map>
#include <set>
#include <string>

#include "fakes/fake_guest_memory.h"
#include "fakes/fake_journal.h"
#include "fakes/fake_vmm.h"
#include "seams/guest_memory.h"
#include "sim/lifeline.h"
#include "sim/model_memory.h"
#include "sim/trace.h"
#include "sim/watch.h"

namespace faultline::sim {

// What is true of a destination VM's memory, whichever engine process holds it.
struct MemoryFacts {
  std::set<PageId> brought;  // pages whose bytes have come from the source
  // Pages whose discard an engine has read and not carried out yet. If it dies there, nobody knows
  // of the discard any more: the source's bytes may come back (docs/adr/0014).
  std::set<PageId> discards_in_hand;
  int64_t no_memory_until_ns = 0;
  // What the engine process that lives has asked the source for on its connection and has not been
  // answered, when each answer came, and when that process or connection began.
  std::set<PageId> asked;
  std::map<PageId, int64_t> answered_ns;
  int64_t began_ns = 0;
  std::function<void()> on_disarm;
  const FakeJournal* source_journal = nullptr;
  const FakeVm* vm = nullptr;

  // The source has its VM back: what still arrives may be of any moment, and nobody will look at
  // it.
  bool called_off() const { return vm->runs_on_source; }
  bool handed_over() const { return source_journal->Has(JournalPhase::kCommitted); }
  // What arrives may be old again: the VM writes on. It may come several times.
  bool before_freeze() const { return !source_journal->Has(JournalPhase::kFrozen); }
};

// Holds the memory for one engine process: it ends with that process, and the memory stays, armed.
class CheckedMemory : public GuestMemory {
 public:
  struct Parts {
    FakeGuestMemory* memory = nullptr;
    MemoryFacts* facts = nullptr;
    const ModelMemory* model = nullptr;
    const ManualClock* clock = nullptr;
    Lifeline* lifeline = nullptr;
    Trace* trace = nullptr;
    Watch* watch = nullptr;
  };

  // All parts outlive it.
  explicit CheckedMemory(const Parts& parts) : parts_(parts) {}
  ~CheckedMemory() override { parts_.memory->StopEvents(); }

  PageTable& table() override { return parts_.memory->table(); }
  void StartEvents(Listener* listener) override { parts_.memory->StartEvents(listener); }
  void StopEvents() override { parts_.memory->StopEvents(); }
  absl::Status ReadEvents(MemoryEvents* events) override;
  InstallResult Install(PageRun run, std::span<const std::byte> data) override;
  InstallResult InstallZeros(PageRun run) override;
  absl::Status Punch(PageRun run) override;
  absl::Status CheckPreCopy() const override { return parts_.memory->CheckPreCopy(); }
  absl::Status Overwrite(PageRun run, std::span<const std::byte> data) override;
  absl::Status MakeMissing(PageRun run) override;
  absl::Status Wake(PageRun run) override { return parts_.memory->Wake(run); }
  absl::StatusOr<std::string> Disarm() override;

 private:
  bool out_of_memory() const { return parts_.clock->now_ns() < parts_.facts->no_memory_until_ns; }
  void CheckBrought(PageId page, std::span<const std::byte> bytes);
  void Fail(const std::string& sentence, PageId page);

  const Parts parts_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_CHECKED_MEMORY_H_
