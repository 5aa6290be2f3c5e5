// Engines that are broken on purpose. Each breaks one rule at one seam, between the engine and the
// checked parts, so that the simulation sees what such an engine would do. It must find every one.
#ifndef FAULTLINE_TESTS_SIM_CANARIES_H_
#define FAULTLINE_TESTS_SIM_CANARIES_H_

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fakes/manual_executor.h"
#include "seams/guest_memory.h"
#include "seams/journal.h"
#include "seams/push_order.h"
#include "seams/transport.h"
#include "seams/vmm.h"

namespace faultline::sim {

enum class Canary : uint8_t {
  kNone,
  kInstallOverwrites,       // a page is put in over one that is there
  kDiscardForgotten,        // the guest's discards are read and nothing is done
  kDiscardNotPunched,       // they are marked, but a copy that came in between stays
  kRunInstalledBlindly,     // what is pushed is put in whatever the page's state is
  kLateAnswerInstalled,     // an answer that comes twice is put in twice
  kPagesSwapped,            // two pages of a pushed run change places
  kAnswerTurnsZero,         // some demand answers lose their bytes
  kAnswerLost,              // some demand answers never come
  kZeroRunLost,             // the last page of some pushed runs is dropped
  kCommitBeforeRecord,      // the handover is recorded only after it was sent
  kLoadedBeforeRecord,      // the same of the destination's Loaded
  kStartsByItself,          // the destination's VM runs as soon as it is loaded
  kGuardianIgnoresJournal,  // the source's guardian restarts a VM that was handed over
  kHolesTurnZero,           // a dying destination engine takes the last userfaultfd with it
  kMapForgetsPages,         // the allocation map leaves pages out that hold data
  kHolesNoted,              // a destination that is started again notes a page that never came
  kDiscardsUnlearned,       // it takes given-up pages for missing ones
  kArrivedSentAgain,        // a source pushes everything on a connection that was made again
  kZeroWaiterForgotten,     // who waits for a page that is pushed as zeros meanwhile gets no answer
  kZeroWaiterLost,          // the same where the answer was lost with its connection
  kNobodyWoken,             // a destination that is started again wakes nobody
  kStaysPaused,             // a VM that was paused for want of memory is never let go on
  kOutcomeBelieved,         // the VM's owner believes whoever says that it stayed with the source
  kMismatchInstalled,       // what changed on its way is put in all the same
  kScanForgetsPage,         // a scan leaves a page out that was written
  kOverwriteLost,           // a page that comes a second time is not put in
  kOldStays,                // what was written after it was sent stays at the destination
  kHolesUnnoticed,          // pages that the guest gave up after they were sent are taken for data
};

// In the order of their values; kNone is not among them.
std::vector<Canary> AllCanaries();
const char* CanaryName(Canary canary);  // "install-overwrites"
std::optional<Canary> CanaryNamed(std::string_view name);

// Puts the broken part where its canary breaks something, and hands everything else through. It
// outlives the engine processes.
class Saboteur {
 public:
  explicit Saboteur(Canary canary) : canary_(canary) {}

  bool Is(Canary canary) const { return canary_ == canary; }
  std::unique_ptr<GuestMemory> BreakMemory(std::unique_ptr<GuestMemory> memory);
  // `memory` was given to BreakMemory before.
  DestinationTransport::Lanes BreakLanes(DestinationTransport::Lanes lanes,
                                         const MemoryLayout& layout);
  std::unique_ptr<PushOrder> BreakOrder(std::unique_ptr<PushOrder> order);
  // What a destination that is started again makes of a page's state.
  void BreakState(PageId page, PageTable* table) const;
  DestinationTransport::Arrived BreakArrivals(DestinationTransport::Arrived arrived) const;
  // Says whether the destination has heard that the VM is its own.
  void set_is_owner(std::function<bool()> is_owner) { is_owner_ = std::move(is_owner); }
  // `inner` outlives what is returned, which is it or this object's.
  DestinationVmm* BreakVmm(DestinationVmm* inner, ManualExecutor* control);
  std::unique_ptr<Journal> BreakJournal(std::unique_ptr<Journal> journal, ManualExecutor* control);

 private:
  const Canary canary_;
  GuestMemory* memory_ = nullptr;  // of the destination's process that lives
  std::unique_ptr<PageReader> reader_;
  std::unique_ptr<PushReceiver> receiver_;
  std::unique_ptr<DestinationVmm> vmm_;
  std::function<bool()> is_owner_;
  std::set<PageId> unanswered_;  // asked for on the connection that there is, or was last
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_CANARIES_H_
