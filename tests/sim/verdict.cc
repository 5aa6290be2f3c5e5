#include "sim/verdict.h"

#include <fmt/format.h>

#include <vector>

#include "base/status.h"
#include "cli/exit_status.h"
#include "sim/world.h"

namespace faultline::sim {
namespace {

class Judgement {
 public:
  explicit Judgement(World* world)
      : world_(world), source_(world->source_end), destination_(world->destination_end) {}

  void Pass() {
    CommandsAgree();
    // A source that still tries to bring the rest is not over, and its VM stands still.
    const bool tries_on = world_->facts.handed_over() && !source_.result.has_value();
    Require(!world_->writes.tracked() || tries_on,
            "it is over, and the source's VM is still slowed by tracking");
    if (world_->facts.handed_over()) {
      HandedOver();
    } else {
      StayedOnSource();
    }
    if (NothingStoodInItsWay() || MustGoOn()) Completed();
  }

 private:
  void Require(bool holds, const char* sentence) {
    if (!holds) world_->watch.Fail(sentence);
  }
  void RequireExit(const CommandEnd& end, ExitStatus status, const char* sentence) {
    if (!end.result.has_value() || ExitStatusOf(*end.result) == status) return;
    world_->watch.Fail(fmt::format("{}: exit status {} instead of {}: {}", sentence,
                                   static_cast<int>(ExitStatusOf(*end.result)),
                                   static_cast<int>(status), MessageOf(end.result->status)));
  }
  bool WasUndecided() const {
    return destination_.result.has_value() && destination_.result->owner == VmOwner::kUndecided;
  }
  bool NothingStoodInItsWay() const {
    return world_->plan.harmless_but_for_faults() && world_->faults->harmless() &&
           source_.restarts == 0 && destination_.restarts == 0 && !source_.killed() &&
           !destination_.killed() && !GaveUpForWantOfRoom();
  }
  // A destination does not wait for room while the VM still runs on the source.
  bool GaveUpForWantOfRoom() const {
    return world_->plan.mode != MigrationMode::kPostCopy && !world_->facts.handed_over() &&
           world_->facts.no_memory_until_ns != 0 && destination_.result.has_value() &&
           absl::IsResourceExhausted(destination_.result->status);
  }
  // A lost link stops a migration for as long as it is lost, where both commands live.
  bool MustGoOn() const {
    return world_->facts.handed_over() && world_->plan.harmless_but_for_faults() &&
           !source_.killed() && !destination_.killed() && !world_->destination_vm_died &&
           !world_->faults->cut_off_for_ever() && world_->plan.limits.recovery_timeout_us == 0 &&
           !WasUndecided();
  }
  bool SucceededAt(const CommandEnd& end) const {
    return end.result.has_value() && end.result->status.ok();
  }

  void CommandsAgree();
  void StayedOnSource();
  void HandedOver();
  void Completed();
  void InterruptedPostCopy();
  void LostWithItsProcess();
  void MemoryOnSource();
  void MemoryOnDestination();
  void MemoryInTwoPlaces();
  std::vector<std::byte> SourceBytes(PageId page) const;
  template <typename Check>  // void(PageId)
  void ForEachPage(Check check) const;

  World* const world_;
  const CommandEnd& source_;
  const CommandEnd& destination_;
};

void Judgement::CommandsAgree() {
  if (source_.result.has_value()) {
    Require(source_.result->owner != VmOwner::kUndecided,
            "the source does not know the VM's owner");
    Require((source_.result->owner == VmOwner::kDestination) == world_->facts.handed_over(),
            "the source's command names another owner than its journal");
  }
  if (!destination_.result.has_value()) return;
  const VmOwner owner = world_->facts.handed_over() ? VmOwner::kDestination : VmOwner::kSource;
  Require(destination_.result->owner == owner || WasUndecided(),
          "the destination's command names another owner than the source's journal");
  if (!WasUndecided()) return;
  // It has to be told, unless nobody can, or its operator did not wait for it.
  const bool source_gave_up = world_->facts.handed_over() &&
                              world_->plan.limits.recovery_timeout_us != 0 &&
                              source_.result.has_value() && !source_.result->status.ok();
  Require(source_.killed() || source_gave_up ||
              world_->faults->cut_off_for_long(world_->destination_down_us) ||
              world_->faults->cancelled(Side::kDestination),
          "the destination was never told whose the VM is");
}

void Judgement::StayedOnSource() {
  Require(world_->vm.runs_on_source == world_->plan.vm_running,
          "the VM was not handed over, and is not at work on the source");
  Require(!world_->vm.runs_on_destination, "the VM was not handed over, and runs there");
  RequireExit(source_, ExitStatus::kFailed, "the source, with its VM back");
  RequireExit(destination_, WasUndecided() ? ExitStatus::kPastHandover : ExitStatus::kFailed,
              "the destination, without a VM");
  MemoryOnSource();
}

void Judgement::HandedOver() {
  Require(!world_->vm.runs_on_source, "the VM was handed over, and runs on the source");
  if (world_->destination_vm_died) return LostWithItsProcess();
  Require(!world_->destination_failed_in_doubt || !world_->vm.runs_on_destination,
          "the destination runs a VM though it had given its migration up before Commit came");
  if (SucceededAt(source_) || SucceededAt(destination_)) {
    MemoryOnDestination();
    Require(world_->guest->waiting_count() == 0, "the VM is whole, and somebody in it still waits");
    Require(world_->vm.runs_on_destination == world_->plan.vm_running,
            "the VM is whole on the destination, and does not do what it did before");
  }
  if (SucceededAt(source_)) {
    Require(destination_.killed() || SucceededAt(destination_),
            "the source has finished, and the destination has not");
    return;
  }
  InterruptedPostCopy();
}

// Its memory is gone; only a migration that was over by then has succeeded.
void Judgement::LostWithItsProcess() {
  Require(!world_->vm.runs_on_destination, "a VM runs whose process is gone");
  if (!SucceededAt(source_)) RequireExit(source_, ExitStatus::kPastHandover, "the source");
  if (SucceededAt(source_) || SucceededAt(destination_)) {
    Require(world_->destination_memory->disarmed(), "a VM that died half-way is taken for whole");
  } else {
    RequireExit(destination_, ExitStatus::kPastHandover, "the destination, whose VM died");
  }
}

void Judgement::Completed() {
  Require(SucceededAt(source_), "nothing keeps the source from completing, and it has not");
  Require(SucceededAt(destination_),
          "nothing keeps the destination from completing, and it has not");
}

// What a post-copy comes to whose link or whose other side was lost for good: the VM is the
// destination's, and its memory lies on both hosts, whole in sum. Who lives tries on, or has ended
// at its limit. A destination that had everything by then does not mind.
void Judgement::InterruptedPostCopy() {
  RequireExit(source_, ExitStatus::kPastHandover, "the source, whose destination was lost");
  if (!SucceededAt(destination_)) {
    RequireExit(destination_, ExitStatus::kPastHandover, "the destination, whose source was lost");
    MemoryInTwoPlaces();
  }
}

template <typename Check>
void Judgement::ForEachPage(Check check) const {
  const MemoryLayout& layout = world_->plan.layout;
  for (RegionIndex region = 0; region < layout.size(); ++region) {
    for (uint64_t index = 0; index < layout[region].page_count(); ++index) {
      const PageId page{region, index};
      if (!world_->model.InDiscard(page)) check(page);
    }
  }
}

std::vector<std::byte> Judgement::SourceBytes(PageId page) const {
  const uint64_t page_bytes = world_->plan.layout[page.region].page_size_bytes;
  std::vector<std::byte> bytes(page_bytes);
  world_->source_memory.Read(page.region, page.index * page_bytes, bytes).IgnoreError();
  return bytes;
}

void Judgement::MemoryOnSource() {
  ForEachPage([this](PageId page) {
    if (world_->model.Equals(page, SourceBytes(page))) return;
    world_->watch.Fail(fmt::format("the source's memory is wrong in the end: page {} of region {}",
                                   page.index, page.region));
  });
}

void Judgement::MemoryOnDestination() {
  Require(world_->destination_memory->disarmed(), "the VM is whole, and its memory still armed");
  ForEachPage([this](PageId page) {
    if (world_->model.Equals(page, world_->destination_memory->BytesOf(page))) return;
    world_->watch.Fail(
        fmt::format("the destination's memory is wrong in the end: page {} of region {}",
                    page.index, page.region));
  });
}

void Judgement::MemoryInTwoPlaces() {
  FakeGuestMemory& memory = *world_->destination_memory;
  Require(memory.table().missing_pages() == 0 || !memory.disarmed(),
          "pages are missing, and nothing keeps them from turning into zeros");
  ForEachPage([&](PageId page) {
    const bool on_source =
        memory.table().Get(page) == PageState::kMissing && !memory.IsPresent(page);
    const std::vector<std::byte> bytes = on_source ? SourceBytes(page) : memory.BytesOf(page);
    if (world_->model.Equals(page, bytes)) return;
    world_->watch.Fail(fmt::format("a page is lost between the hosts: page {} of region {}",
                                   page.index, page.region));
  });
}

}  // namespace

void Judge(World& world) { Judgement(&world).Pass(); }

}  // namespace faultline::sim
