// The engine's guest memory, seen from outside: takes the time of each fault as it passes through
// the seam, and changes nothing.
#ifndef FAULTLINE_BENCH_MICRO_STAMPING_MEMORY_H_
#define FAULTLINE_BENCH_MICRO_STAMPING_MEMORY_H_

#include <memory>
#include <utility>

#include "base/monotonic_time.h"
#include "micro/stamps.h"
#include "seams/guest_memory.h"

namespace faultline::bench::micro {

// Stamps what the demand lane does: events as they are read, and installs of single pages that
// somebody waits for.
class StampingMemory : public GuestMemory {
 public:
  // `stamps` outlives this.
  StampingMemory(std::unique_ptr<GuestMemory> memory, StampTable* stamps)
      : memory_(std::move(memory)), stamps_(stamps) {}

  PageTable& table() override { return memory_->table(); }
  void StartEvents(Listener* listener) override { memory_->StartEvents(listener); }
  void StopEvents() override { memory_->StopEvents(); }
  absl::Status ReadEvents(MemoryEvents* events) override {
    const size_t known = events->faults.size();
    absl::Status status = memory_->ReadEvents(events);
    const int64_t now_ns = MonotonicNs();
    for (size_t i = known; i < events->faults.size(); ++i) {
      (*stamps_)[events->faults[i].index].read_ns = now_ns;
    }
    return status;
  }
  InstallResult Install(PageRun run, std::span<const std::byte> data) override {
    if (run.count > 1) return memory_->Install(run, data);
    const int64_t begin_ns = MonotonicNs();
    const InstallResult result = memory_->Install(run, data);
    if (result.outcome == InstallOutcome::kDone) {
      FaultStamps& stamp = (*stamps_)[run.first];
      stamp.answered_ns = begin_ns;
      stamp.installed_ns = MonotonicNs();
    }
    return result;
  }
  InstallResult InstallZeros(PageRun run) override { return memory_->InstallZeros(run); }
  absl::Status Punch(PageRun run) override { return memory_->Punch(run); }
  absl::Status CheckPreCopy() const override { return memory_->CheckPreCopy(); }
  absl::Status Overwrite(PageRun run, std::span<const std::byte> data) override {
    return memory_->Overwrite(run, data);
  }
  absl::Status MakeMissing(PageRun run) override { return memory_->MakeMissing(run); }
  absl::Status Wake(PageRun run) override { return memory_->Wake(run); }
  absl::StatusOr<std::string> Disarm() override { return memory_->Disarm(); }

 private:
  const std::unique_ptr<GuestMemory> memory_;
  StampTable* const stamps_;
};

// Makes them.
class StampingMemoryFactory : public GuestMemoryFactory {
 public:
  StampingMemoryFactory(std::unique_ptr<GuestMemoryFactory> factory, StampTable* stamps)
      : factory_(std::move(factory)), stamps_(stamps) {}

  absl::Status Check(const VmDescription& vm) override { return factory_->Check(vm); }
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& vm) override {
    ASSIGN_OR_RETURN(std::unique_ptr<GuestMemory> memory, factory_->Arm(vm));
    return std::make_unique<StampingMemory>(std::move(memory), stamps_);
  }

 private:
  const std::unique_ptr<GuestMemoryFactory> factory_;
  StampTable* const stamps_;
};

}  // namespace faultline::bench::micro

#endif  // FAULTLINE_BENCH_MICRO_STAMPING_MEMORY_H_
