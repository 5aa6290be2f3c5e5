// A virtual machine that is a region and nothing else, for whole sessions of the engine.
#ifndef FAULTLINE_BENCH_COMMON_SYNTHETIC_VM_H_
#define FAULTLINE_BENCH_COMMON_SYNTHETIC_VM_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/status.h"
#include "common/region.h"
#include "engine/session_report.h"
#include "seams/journal.h"
#include "seams/vm_description.h"
#include "vmm/callbacks/callback_destination_vmm.h"
#include "vmm/callbacks/callback_source_vmm.h"

namespace faultline::bench {

// A limit of the bandwidth under which pages come on demand only: the pusher may send one run
// before it holds, and then nothing for hours.
inline constexpr uint64_t kHeldBytesPerSecond = 1;

// The memory dies with the process: nobody could use a record of it.
class NoJournal : public Journal {
 public:
  absl::Status Record(JournalPhase) override { return absl::OkStatus(); }
  absl::Status MakeDurable() override { return absl::OkStatus(); }
};

// Told once the destination listens, with the real address: HOST:PORT.
using Listening = std::function<void(const std::string& address)>;

// Says on stderr what the engine has to say, and knows how far its session came.
class Observer : public SessionObserver {
 public:
  explicit Observer(Listening listening = {}) : listening_(std::move(listening)) {}

  void OnListening(const std::string& address) override;
  void OnPhase(Phase phase, const std::string&) override {
    if (phase != Phase::kFailed) phase_ = phase;
  }
  void OnProgress(const ProgressSnapshot&) override {}
  void OnNotice(const std::string& text) override;

  // The last phase before the end; after Session::Run.
  Phase phase() const { return phase_; }

 private:
  const Listening listening_;
  Phase phase_ = Phase::kConnecting;
};

VmDescription Describe(const Region& region);

// Calls `stop` in the downtime, with the guest to be stopped; what it returns is the device state.
SourceCallbacks GuestThatLeaves(std::function<std::string()> stop);
// Calls `load` with the device state, then `run` once the memory is this side's.
DestinationCallbacks GuestThatArrives(std::function<absl::Status(const std::string& state)> load,
                                      std::function<void()> run);

}  // namespace faultline::bench

#endif  // FAULTLINE_BENCH_COMMON_SYNTHETIC_VM_H_
