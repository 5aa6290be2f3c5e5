#include "sim/processes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "prefetch/push_orders.h"

namespace faultline::sim {
namespace {

VmDescription Describe(const Plan& plan, MemoryLayout layout, bool running) {
  VmDescription vm;
  for (const RegionLayout& region : layout) vm.regions.push_back({.layout = region});
  vm.running = running;
  vm.guest_may_discard = plan.guest_discards;
  vm.direct_io = plan.direct_io;
  vm.vmm_version = "fake VMM 1";
  return vm;
}

MemoryLayout WithPluggedMemory(MemoryLayout layout) {
  layout.push_back({"plugged", 4096, 4096});
  return layout;
}

MemoryLayout LayoutAtDestination(const Plan& plan) {
  MemoryLayout layout = plan.layout;
  if (plan.layout_twist == LayoutTwist::kOtherOrder) std::reverse(layout.begin(), layout.end());
  if (plan.layout_twist == LayoutTwist::kDiffers) {
    layout.front().size_bytes += layout.front().page_size_bytes;
  }
  return layout;
}

// Scripts what the plan has for `side`'s VMM; calls are steps of the process.
void ScriptVmm(const Surroundings& world, Side side, Lifeline* lifeline, FakeVmmCalls* vmm,
               std::function<void(const std::string&)> check) {
  for (const VmmEvent& event : world.plan->vmm_events) {
    if (event.side == side) vmm->Script(event.call, event.step);
  }
  vmm->OnCall([world, side, lifeline, check = std::move(check)](const std::string& name) {
    world.trace->Note(side, "VMM call", name.size(), static_cast<uint64_t>(name.front()));
    if (check) check(name);
    lifeline->Step();
  });
}

// A command that goes on with a migration goes on with what was agreed.
IntegrityWish Wish(IntegrityWish drawn, const KeptMigration* kept) {
  if (kept == nullptr) return drawn;
  return kept->integrity ? IntegrityWish::kOn : IntegrityWish::kOff;
}

// A process's hold on the source's memory, which outlives it.
class HeldSourceMemory : public SourceMemory {
 public:
  HeldSourceMemory(FakeSourceMemory* memory, bool forgets, bool knows_no_holes)
      : memory_(memory), forgets_(forgets), knows_no_holes_(knows_no_holes) {}
  const MemoryLayout& layout() const override { return memory_->layout(); }
  absl::StatusOr<AllocationMap> ReadAllocationMap() override {
    absl::StatusOr<AllocationMap> map = memory_->ReadAllocationMap();
    if (!map.ok()) return map;
    for (RegionIndex region = 0; knows_no_holes_ && region < layout().size(); ++region) {
      (*map)[region].Add(0, layout()[region].page_count());
    }
    for (PageRangeSet& pages : *map) {
      if (auto range = pages.FindFrom(0); forgets_ && range.has_value()) {
        pages.Remove(range->first, range->first + 1);
      }
    }
    return map;
  }
  absl::Status Read(RegionIndex region, uint64_t offset_bytes,
                    std::span<std::byte> out) const override {
    return memory_->Read(region, offset_bytes, out);
  }

 private:
  FakeSourceMemory* const memory_;
  const bool forgets_;
  const bool knows_no_holes_;
};

// A process's tracker: it ends with it, and so does the tracking.
class HeldTracker : public DirtyTracker {
 public:
  // All arguments outlive it.
  HeldTracker(const Surroundings& world, Lifeline* lifeline, bool needs_paused_vm)
      : world_(world), lifeline_(lifeline), inner_(world.writes, needs_paused_vm) {}

  bool needs_paused_vm() const override { return inner_.needs_paused_vm(); }
  std::string_view mechanism() const override { return inner_.mechanism(); }
  absl::Status Start() override {
    lifeline_->Step();
    world_.trace->Note(Side::kSource, "tracks");
    ExpectStill();
    return inner_.Start();
  }
  absl::Status Scan(std::span<const PageRun> runs, AfterScan after, PageSet* written) override {
    lifeline_->Step();
    ExpectStill();
    absl::Status status = inner_.Scan(runs, after, written);
    world_.trace->Note(Side::kSource, "scans", static_cast<uint64_t>(after), written->page_count());
    for (const PageRun& run : runs) {
      const PageRun first = written->FindFirst(run, 1);
      if (world_.saboteur->Is(Canary::kScanForgetsPage) && !first.empty()) written->Remove(first);
    }
    return status;
  }
  absl::Status Stop() override {
    world_.trace->Note(Side::kSource, "tracks no more");
    return inner_.Stop();
  }

 private:
  void ExpectStill() {
    if (!needs_paused_vm() || !world_.vm->runs_on_source) return;
    world_.watch->Fail("the VM runs during a scan that it must stand still for");
  }

  const Surroundings world_;
  Lifeline* const lifeline_;
  FakeDirtyTracker inner_;
};

}  // namespace

absl::Status HeldJournal::Record(JournalPhase phase) {
  lifeline_->Step();
  absl::Status status = journal_->Record(phase);
  trace_->Note(side_, status.ok() ? "records" : "cannot record", static_cast<uint64_t>(phase));
  lifeline_->Step();
  return status;
}

absl::Status HeldJournal::Keep(const KeptTerms& terms, const VmDescription& vm) {
  lifeline_->Step();
  absl::Status status = journal_->Keep(terms, vm);
  lifeline_->Step();
  return status;
}

absl::Status HeldJournal::MakeDurable() {
  lifeline_->Step();
  return journal_->MakeDurable();
}

class SourceProcess::MemoryFactory : public SourceMemoryFactory {
 public:
  MemoryFactory(FakeSourceMemory* memory, const Saboteur* saboteur)
      : memory_(memory), saboteur_(saboteur) {}
  absl::StatusOr<std::unique_ptr<SourceMemory>> Open(const VmDescription&) override {
    return std::make_unique<HeldSourceMemory>(memory_, saboteur_->Is(Canary::kMapForgetsPages),
                                              saboteur_->Is(Canary::kHolesUnnoticed));
  }

 private:
  FakeSourceMemory* const memory_;
  const Saboteur* const saboteur_;
};

class SourceProcess::TrackerFactory : public DirtyTrackerFactory {
 public:
  TrackerFactory(const Surroundings& world, Lifeline* lifeline)
      : world_(world), lifeline_(lifeline) {}
  absl::StatusOr<std::unique_ptr<DirtyTracker>> Open(const VmDescription& vm) override {
    return std::make_unique<HeldTracker>(world_, lifeline_, vm.direct_io);
  }

 private:
  const Surroundings world_;
  Lifeline* const lifeline_;
};

SourceProcess::SourceProcess(const Surroundings& world, Lifeline lifeline, FakeJournal* journal,
                             FakeSourceMemory* memory, bool resumes, Done done)
    : world_(world),
      lifeline_(lifeline),
      threads_(world.clock, "source"),
      observer_(Side::kSource, world.trace) {
  const Plan& plan = *world.plan;
  vmm_ = std::make_unique<FakeSourceVmm>(&threads_.control, world.vm,
                                         Describe(plan, plan.layout, !resumes && plan.vm_running));
  if (plan.layout_twist == LayoutTwist::kChangesAtFreeze) {
    vmm_->set_layout_at_freeze(Describe(plan, WithPluggedMemory(plan.layout), plan.vm_running));
  }
  vmm_->set_device_state(std::vector<std::byte>(plan.device_state_bytes, std::byte{0x5d}));
  ScriptVmm(world, Side::kSource, &lifeline_, vmm_.get(),
            [world, journal](const std::string& name) {
              if (name == "Rollback" && journal->Has(JournalPhase::kCommitted)) {
                world.watch->Fail("the source takes a VM back that it has handed over");
              }
            });
  transport_ = std::make_unique<FakeSourceTransport>(world.network, &threads_.control,
                                                     &threads_.demand, &threads_.bulk);
  memory_factory_ = std::make_unique<MemoryFactory>(memory, world.saboteur);
  tracker_factory_ = std::make_unique<TrackerFactory>(world, &lifeline_);
  journal_ = world.saboteur->BreakJournal(
      std::make_unique<HeldJournal>(Side::kSource, journal, &lifeline_, world.trace),
      &threads_.control);
  observer_.set_on_reconnected([world] { world.arrived_once->OnConnected(); });
  std::optional<SourceSession::Resume> resume;
  if (resumes) {
    resume = SourceSession::Resume{.token = journal->kept()->token, .run = journal->kept()->run};
  }
  session_ = std::make_unique<SourceSession>(
      SourceSession::Parts{.control = &threads_.control,
                           .demand = &threads_.demand,
                           .bulk = &threads_.bulk,
                           .vmm = vmm_.get(),
                           .memory_factory = memory_factory_.get(),
                           .transport = transport_.get(),
                           .tracker_factory = tracker_factory_.get(),
                           .push_order = std::make_unique<RepeatingOrder>(
                               world.saboteur->BreakOrder(MakePushOrder(plan.push_order).value()),
                               plan.push_twice_percent, plan.seed ^ 0x70757368u),
                           .journal = journal_.get(),
                           .observer = &observer_},
      SourceSession::Options{
          .id = {1, 2, 3},
          .quit_source = false,
          .resume = resume,
          .integrity = Wish(plan.source_integrity, resumes ? &*journal->kept() : nullptr),
          .mode = plan.mode,
          .budgets = plan.budgets,
          .limits = plan.limits});
  threads_.control.Post(
      [this, done = std::move(done)]() mutable { session_->Start(std::move(done)); });
}

SourceProcess::~SourceProcess() { TakeDown(); }

size_t SourceProcess::TakeDown() {
  // A session that has ended has no timer left that its destruction would have to cancel.
  const size_t before = threads_.own_timers();
  session_.reset();
  const size_t of_session = before - threads_.own_timers();
  transport_.reset();
  vmm_.reset();
  return of_session + threads_.pending();
}

void SourceProcess::Cancel(const std::string& reason) {
  threads_.control.Post([this, reason] { session_->Cancel(reason); });
}

void SourceProcess::SwitchNow() {
  threads_.control.Post([this] { session_->SwitchNow(); });
}

class DestinationProcess::MemoryFactory : public GuestMemoryFactory {
 public:
  explicit MemoryFactory(DestinationProcess* process) : process_(process) {}
  absl::Status Check(const VmDescription&) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& vm) override {
    process_->lifeline_.Step();
    process_->memory_ = process_->make_memory_(vm.layout(), &process_->threads_.demand);
    process_->world_.trace->Note(Side::kDestination, "arms");
    process_->lifeline_.Step();
    return Hold();
  }
  // As the real one does it: what lies in the RAM file and is called missing has landed.
  absl::StatusOr<std::unique_ptr<GuestMemory>> TakeOver(const VmDescription& vm) override {
    const Surroundings& world = process_->world_;
    process_->lifeline_.Step();
    process_->memory_ = process_->make_memory_(vm.layout(), &process_->threads_.demand);
    world.trace->Note(Side::kDestination, "takes the memory over");
    FakeGuestMemory& memory = *process_->memory_;
    if (memory.disarmed()) return nullptr;
    for (RegionIndex region = 0; region < vm.regions.size(); ++region) {
      for (uint64_t index = 0; index < vm.regions[region].layout.page_count(); ++index) {
        const PageId page{region, index};
        world.saboteur->BreakState(page, &memory.table());
        if (!memory.IsPresent(page)) continue;
        memory.table().Change(page, PageState::kMissing, PageState::kInstalled);
      }
    }
    process_->lifeline_.Step();
    if (world.saboteur->Is(Canary::kNobodyWoken)) return Hold();
    for (RegionIndex region = 0; region < vm.regions.size(); ++region) {
      RETURN_IF_ERROR(memory.Wake({region, 0, vm.regions[region].layout.page_count()}));
    }
    process_->lifeline_.Step();
    return Hold();
  }

 private:
  std::unique_ptr<GuestMemory> Hold() {
    const Surroundings& world = process_->world_;
    return world.saboteur->BreakMemory(
        std::make_unique<CheckedMemory>(CheckedMemory::Parts{.memory = process_->memory_,
                                                             .facts = process_->facts_,
                                                             .model = process_->model_,
                                                             .clock = world.clock,
                                                             .lifeline = &process_->lifeline_,
                                                             .trace = world.trace,
                                                             .watch = world.watch}));
  }

  DestinationProcess* const process_;
};

DestinationProcess::DestinationProcess(const Surroundings& world, Lifeline lifeline,
                                       FakeJournal* journal, const ModelMemory* model,
                                       MemoryFacts* facts, MakeMemory make_memory, bool resumes,
                                       Done done)
    : world_(world),
      lifeline_(lifeline),
      model_(model),
      facts_(facts),
      make_memory_(std::move(make_memory)),
      touches_(world.plan->seed ^ 0x746f756368u),
      threads_(world.clock, "destination"),
      observer_(Side::kDestination, world.trace) {
  const Plan& plan = *world.plan;
  VmDescription vm = Describe(plan, LayoutAtDestination(plan), false);
  if (resumes) {
    // What was kept has the source's order, and does not say whether the guest may discard.
    vm = Describe(plan, plan.layout, false);
    vm.guest_may_discard = true;
  }
  vmm_ = std::make_unique<FakeDestinationVmm>(&threads_.control, world.vm, vm);
  if (journal->Has(JournalPhase::kWhole)) vmm_->set_taken_over();
  if (plan.layout_twist == LayoutTwist::kChangesAtDestination) {
    vmm_->set_layout_again(Describe(plan, WithPluggedMemory(plan.layout), false));
  }
  ScriptVmm(
      world, Side::kDestination, &lifeline_, vmm_.get(), [this, journal](const std::string& name) {
        if (name == "TakeOver" && !facts_->handed_over()) {
          world_.watch->Fail("the destination takes a VM over that was not handed over");
        }
        if (name == "Discard" && journal->Has(JournalPhase::kLoaded) && facts_->handed_over()) {
          world_.watch->Fail("the destination ends a VM that is its own");
        }
      });
  vmm_->set_load_hook([this](std::function<void()> go_on) {
    TouchWhileLoading(world_.plan->device_touches, std::move(go_on));
  });
  transport_ = std::make_unique<FakeDestinationTransport>(world.network, &threads_.control,
                                                          &threads_.demand, &threads_.bulk);
  checked_transport_ = std::make_unique<CheckedDestinationTransport>(
      transport_.get(),
      CheckedReader::Parts{.demand = &threads_.demand,
                           .lifeline = &lifeline_,
                           .trace = world.trace,
                           .watch = world.watch,
                           .facts = facts},
      plan.answer_twice_percent, plan.seed ^ 0x7265706cu, world.saboteur);
  memory_factory_ = std::make_unique<MemoryFactory>(this);
  journal_ = world.saboteur->BreakJournal(
      std::make_unique<HeldJournal>(Side::kDestination, journal, &lifeline_, world.trace),
      &threads_.control);
  std::optional<DestinationSession::Resume> resume;
  if (resumes) {
    resume = DestinationSession::Resume{.id = journal->kept()->id,
                                        .committed = journal->Has(JournalPhase::kCommitted),
                                        .whole = journal->Has(JournalPhase::kWhole),
                                        .released = journal->Has(JournalPhase::kReleased)};
  }
  const SessionToken token = resumes ? journal->kept()->token : SessionToken{7, 7, 7};
  session_ = std::make_unique<DestinationSession>(
      DestinationSession::Parts{.control = &threads_.control,
                                .demand = &threads_.demand,
                                .bulk = &threads_.bulk,
                                .vmm = world.saboteur->BreakVmm(vmm_.get(), &threads_.control),
                                .memory_factory = memory_factory_.get(),
                                .transport = checked_transport_.get(),
                                .journal = journal_.get(),
                                .observer = &observer_},
      DestinationSession::Options{
          .token = token,
          .resume = resume,
          .read_around = plan.around_bytes == 0
                             ? ReadAround::OnLink(plan.bandwidth_bytes_per_second)
                             : ReadAround::Always(plan.around_bytes),
          .integrity = Wish(plan.destination_integrity, resumes ? &*journal->kept() : nullptr),
          .limits = plan.limits});
  threads_.control.Post(
      [this, done = std::move(done)]() mutable { session_->Start(std::move(done)); });
}

DestinationProcess::~DestinationProcess() { TakeDown(); }

size_t DestinationProcess::TakeDown() {
  alive_.reset();
  const size_t before = threads_.own_timers();
  session_.reset();
  const size_t of_session = before - threads_.own_timers();
  checked_transport_.reset();
  transport_.reset();
  vmm_.reset();
  return of_session + threads_.pending();
}

void DestinationProcess::Cancel(const std::string& reason) {
  threads_.control.Post([this, reason] { session_->Cancel(reason); });
}

// Devices read guest memory while they are loaded, one page after the other.
void DestinationProcess::TouchWhileLoading(int touches_left, std::function<void()> go_on) {
  if (touches_left == 0) {
    if (world_.saboteur->Is(Canary::kStartsByItself)) {
      world_.vm->runs_on_destination = true;
      world_.vm->Note();
    }
    return go_on();
  }
  const auto region = static_cast<RegionIndex>(touches_.Below(world_.plan->layout.size()));
  const PageId page{region, touches_.Below(world_.plan->layout[region].page_count())};
  world_.trace->Note(Side::kDestination, "devices touch", page.region, page.index);
  memory_->Touch(page, [this, page, touches_left, go_on = std::move(go_on),
                        alive = std::weak_ptr<bool>(alive_)](const std::vector<std::byte>& seen) {
    // The memory is let go when the VM is given up here; nobody looks at it then.
    if (alive.expired() || vmm_->under_way() != "Load") return;
    if (!model_->Equals(page, seen) && !facts_->called_off()) {
      world_.watch->Fail(
          fmt::format("a device read wrong bytes while it was loaded: page {} of "
                      "region {}",
                      page.index, page.region));
    }
    TouchWhileLoading(touches_left - 1, go_on);
  });
}

}  // namespace faultline::sim
