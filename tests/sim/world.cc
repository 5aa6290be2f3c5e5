#include "sim/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "protocol/codec.h"
#include "sim/verdict.h"

namespace faultline::sim {
namespace {

// From the last fault on, everything that a session waits for is over by then: silence, the telling
// of an outcome, and the transfer itself.
constexpr int64_t kEndsWithinUs = 120'000'000;
constexpr int64_t kCancelsWithinUs = 15'000'000;
// A lane's first message; its answer travels the other way.
constexpr size_t kHelloBytes = kMessageHeaderBytes + 44;
constexpr int64_t kQuietUs = 60'000;
constexpr int64_t kRoomIsNoticedWithinUs = 250'000;

bool CountsForFaults(const Message& message) {
  return !std::holds_alternative<Heartbeat>(message) && !std::holds_alternative<Progress>(message);
}

}  // namespace

World::World(const Plan& drawn, Canary canary)
    : plan(drawn),
      clock(drawn.seed),
      saboteur(canary),
      model(plan.layout),
      source_memory(plan.layout),
      writes(plan.layout),
      random_(plan.seed ^ 0x776f726c64u),
      hosts_(&clock, "hosts") {
  network.set_latency_us(plan.latency_us);
  network.set_bandwidth_bytes_per_second(plan.bandwidth_bytes_per_second);
  network.set_push_window_bytes(plan.push_window_bytes);
  if (plan.jitter_us != 0) {
    network.set_extra_delay_us(
        [this](ConnectionRole, int) { return random_.Between(0, plan.jitter_us); });
  }
  network.set_page_hook([this](PageRun run) { arrived_once_.OnSent(run); });
  network.set_changer([this](ConnectionRole role, int to, FakeNetwork::Bytes* bytes) {
    ChangeOnItsWay(role, to, bytes);
  });
  network.set_control_hook([this](const Message& message, bool from_source) {
    return OnControlMessage(message, from_source);
  });
  for (const JournalFailure& failure : plan.journal_failures) {
    (failure.side == Side::kSource ? source_journal : destination_journal).FailAt(failure.phase);
  }
  if (plan.records_not_durable) {
    source_journal.FailMakeDurable();
    destination_journal.FailMakeDurable();
  }
  if (plan.map_unreadable) source_memory.FailWith(absl::InternalError("lseek on the RAM file"));
  faults = std::make_unique<Faults>(plan, this, &network, &hosts_, &trace);
  guest = std::make_unique<Guest>(Guest::Parts{.clock = &clock,
                                               .vm = &vm,
                                               .source_memory = &source_memory,
                                               .writes = &writes,
                                               .model = &model,
                                               .trace = &trace,
                                               .watch = &watch},
                                  plan);
  saboteur.set_is_owner([this] { return destination_journal.Has(JournalPhase::kCommitted); });
  facts.on_disarm = [this] { guest->ExpectNobodyForgotten(facts); };
  facts.source_journal = &source_journal;
  facts.vm = &vm;
  vm.runs_on_source = plan.vm_running;
  vm.on_change = [this] {
    trace.Note(Side::kWorld, "VM runs: source, destination", vm.runs_on_source,
               vm.runs_on_destination);
    if (vm.ran_on_both) watch.Fail("the VM runs on both hosts");
    guest->OnVmChanged();
  };
  FillMemory();
}

World::~World() {
  vm.on_change = nullptr;
  source_.reset();
  destination_.reset();
}

// Sparse, as a VM's memory is: holes, pages of zeros that were allocated, a few words, whole pages.
void World::FillMemory() {
  for (RegionIndex region = 0; region < plan.layout.size(); ++region) {
    for (uint64_t index = 0; index < plan.layout[region].page_count(); ++index) {
      const PageId page{region, index};
      const uint64_t kind = random_.Below(10);
      if (kind < 3) continue;
      const uint64_t word_count = model.WordCount(region);
      const uint64_t step = kind < 8 ? 1 + random_.Below(word_count) : 1;
      const bool zero = random_.Chance(plan.zero_pages_percent);
      for (uint64_t word = 0; word < word_count; word += step) {
        const uint64_t value = zero ? 0 : random_.Next();
        source_memory.WriteWord(page, word, value);
        model.Write(page, word, value);
      }
    }
  }
}

Outcome World::Run() {
  StartDestination(faults->DeathStep(Side::kDestination), /*resumes=*/false);
  guest->Start();
  Drive([this] { return destination_end.over || destination_->listens(); }, 100'000);
  faults->Start();
  StartSource(faults->DeathStep(Side::kSource), /*resumes=*/false);
  HoldSomeThread(plan.holds);
  SwitchLater();
  RunToTheEnd();
  if (!watch.failed()) Judge(*this);
  Outcome outcome;
  outcome.breach = watch.breach();
  outcome.digest = trace.digest();
  outcome.events = trace.event_count();
  outcome.handed_over = facts.handed_over();
  outcome.completed = source_end.result.has_value() && source_end.result->status.ok() &&
                      destination_end.result.has_value() && destination_end.result->status.ok();
  outcome.restarted = restarts_ != 0;
  outcome.reads_checked = guest->reads_checked();
  outcome.last_events = trace.Last();
  return outcome;
}

void World::SwitchLater() {
  if (plan.switch_after_us == 0) return;
  timers_.push_back(clock.Schedule(&hosts_, clock.now_ns() + plan.switch_after_us * 1000, [this] {
    if (IsAlive(Side::kSource)) source_->SwitchNow();
  }));
}

void World::HoldSomeThread(int holds_left) {
  if (holds_left == 0 || (source_end.over && destination_end.over)) return;
  const int64_t next_ns = clock.now_ns() + random_.Between(1, plan.hold_interval_us) * 1000;
  hold_timer_ = clock.Schedule(&hosts_, next_ns, [this, holds_left] {
    const Side side = random_.Chance(50) ? Side::kSource : Side::kDestination;
    const auto thread = static_cast<int>(random_.Below(3));
    HoldThread(side, thread, clock.now_ns() + random_.Between(1, plan.hold_us) * 1000);
    HoldSomeThread(holds_left - 1);
  });
}

bool World::Drive(const std::function<bool()>& done, int64_t limit_us) {
  const int64_t limit_ns = clock.now_ns() + limit_us * 1000;
  while (true) {
    try {
      return clock.RunUntil([&] { return watch.failed() || done(); },
                            (limit_ns - clock.now_ns()) / 1000);
    } catch (const ProcessDied& death) {
      Kill(death.side);
    }
  }
}

void World::RunToTheEnd() {
  auto source_ends = [this] { return source_end.over || TriesInVain(Side::kSource); };
  auto destination_ends = [this] {
    return destination_end.over || TriesInVain(Side::kDestination);
  };
  auto over = [&] { return source_ends() && destination_ends(); };
  // Faults and restarts happen on the way, and each of them sets the end off.
  auto last_disturbance_ns = [this, started_ns = clock.now_ns()] {
    return std::max({started_ns, faults->last_end_ns(), last_restart_ns_});
  };
  int64_t seen_ns = -1;
  while (!over() && !watch.failed() && seen_ns != last_disturbance_ns()) {
    seen_ns = last_disturbance_ns();
    Drive(over, std::max<int64_t>(0, (seen_ns - clock.now_ns()) / 1000 + kEndsWithinUs));
  }
  if (watch.failed()) return;
  if (!source_ends()) return watch.Fail("the source has not ended, long after the last fault");
  if (!destination_ends()) ExpectDestinationMayWait();
  if (!watch.failed()) Drive([] { return false; }, kQuietUs);
}

bool World::TriesInVain(Side side) const {
  if (!facts.handed_over() || plan.limits.recovery_timeout_us != 0) return false;
  const bool source = side == Side::kSource;
  // One that has everything waits for a while, to say so.
  if (!source && destination_journal.Has(JournalPhase::kWhole)) return false;
  const bool alone = source ? destination_end.over : source_end.over;
  if (!alone && !faults->cut_off_for_ever()) return false;
  return IsAlive(side) &&
         (source ? source_->phase() : destination_->phase()) == Phase::kReconnecting;
}

// A destination waits without end for a source that never came, and for the word on whose the VM
// is.
void World::ExpectDestinationMayWait() {
  const bool nobody_came = destination_->phase() == Phase::kConnecting;
  const bool in_doubt = destination_journal.Has(JournalPhase::kLoaded) &&
                        !destination_journal.Has(JournalPhase::kCommitted);
  if (!nobody_came && !in_doubt) {
    return watch.Fail("the destination has not ended, long after the last fault");
  }
  destination_gave_up = true;
  Cancel(Side::kDestination);
  Drive([this] { return destination_end.over; }, kCancelsWithinUs);
  if (!watch.failed() && !destination_end.over) watch.Fail("the destination cannot be cancelled");
}

Surroundings World::surroundings() {
  return {&plan, &clock, &network, &vm, &writes, &saboteur, &trace, &watch, &arrived_once_};
}

void World::StartDestination(uint64_t death_step, bool resumes) {
  facts.asked.clear();
  facts.began_ns = clock.now_ns();
  destination_ = std::make_unique<DestinationProcess>(
      surroundings(), Lifeline(Side::kDestination, death_step), &destination_journal, &model,
      &facts,
      [this, resumes](const MemoryLayout& layout, ManualExecutor* demand) {
        if (resumes) {
          destination_memory->MoveTo(demand);
          return destination_memory.get();
        }
        destination_memory = std::make_unique<FakeGuestMemory>(layout, demand);
        guest->set_destination_memory(destination_memory.get());
        return destination_memory.get();
      },
      resumes,
      [this](SessionResult result) {
        destination_end.over = true;
        destination_end.result = std::move(result);
        LeaveInPeace(Side::kDestination);
      });
}

void World::StartSource(uint64_t death_step, bool resumes) {
  source_ = std::make_unique<SourceProcess>(surroundings(), Lifeline(Side::kSource, death_step),
                                            &source_journal, &source_memory, resumes,
                                            [this](SessionResult result) {
                                              source_end.over = true;
                                              source_end.result = std::move(result);
                                              LeaveInPeace(Side::kSource);
                                            });
}

// The command returns: its session is destroyed, then what it was made of, and nothing may be left
// that would still run.
void World::LeaveInPeace(Side side) {
  trace.Note(side, "has ended");
  Depart(side);
}

void World::Depart(Side side) {
  timers_.push_back(clock.Schedule(&hosts_, clock.now_ns() + 1000, [this, side] {
    const bool source = side == Side::kSource;
    // A thread that gets no processor still has to run what is posted to it.
    if (source ? source_->threads().held() : destination_->threads().held()) return Depart(side);
    const size_t left = source ? source_->TakeDown() : destination_->TakeDown();
    if (left != 0) {
      watch.Fail(fmt::format("{} tasks and timers are left of the {} after its end", left,
                             source ? "source" : "destination"));
    }
    if (source) {
      source_.reset();
    } else {
      destination_.reset();
    }
    // It was not stood down: a rollback that failed is the guardian's to do.
    if (source && !facts.handed_over()) Guard(side);
  }));
}

bool World::IsAlive(Side side) const {
  return side == Side::kSource ? source_ != nullptr && !source_end.over
                               : destination_ != nullptr && !destination_end.over;
}

void World::StarveDestination(int64_t until_ns) {
  facts.no_memory_until_ns = std::max(facts.no_memory_until_ns, until_ns);
  timers_.push_back(clock.Schedule(&hosts_, until_ns + kRoomIsNoticedWithinUs * 1000,
                                   [this] { ExpectNotPaused(); }));
}

void World::ExpectNotPaused() {
  const bool room = facts.no_memory_until_ns + kRoomIsNoticedWithinUs * 1000 <= clock.now_ns();
  if (!room || !plan.vm_running || !IsAlive(Side::kDestination) || destination_vm_died) return;
  const std::string call = destination_->vmm().under_way();
  if (destination_->phase() != Phase::kPostCopy || !call.empty()) return;
  const auto& calls = destination_->vmm().calls();
  if (vm.runs_on_destination || calls.back() != "Pause") return;
  watch.Fail("there is room again for long, and the VM is still paused");
}

void World::HoldThread(Side side, int thread, int64_t until_ns) {
  if (!IsAlive(side)) return;
  ProcessThreads& threads = side == Side::kSource ? source_->threads() : destination_->threads();
  threads.at(thread).HoldUntil(until_ns);
}

void World::KillDestinationVm() {
  destination_vm_died = true;
  vm.runs_on_destination = false;
  vm.Note();
  if (destination_memory != nullptr) destination_memory->KillVm();
  if (destination_ != nullptr) {
    destination_->vmm().Die(absl::UnavailableError("the VMM's process is gone"));
  }
}

// What no source says after Commit, and nobody may believe.
void World::SendLateWord() {
  if (!destination_journal.Has(JournalPhase::kCommitted)) return;
  std::unique_ptr<FakeSocket> socket = network.Connect(ConnectionRole::kOutcome);
  if (socket == nullptr) return;
  Hello hello;
  hello.role = ConnectionRole::kOutcome;
  hello.migration_id = destination_journal.kept()->id;
  hello.token = destination_journal.kept()->token;
  const PeerError word{.code = PeerErrorCode::kCancelled, .text = "the VM stays with the source"};
  for (const Message& message : {Message(hello), Message(word)}) {
    FakeSocket::Bytes bytes;
    EncodeMessage(message, &bytes);
    socket->Send(std::move(bytes));
  }
  late_words_.push_back(std::move(socket));
}

void World::ChangeUntil(ConnectionRole role, uint64_t percent, int64_t until_ns) {
  changes_[role] = {percent, until_ns};
}

// A demand answer keeps the page that it names: the reader's own check takes another one for a
// mistake of the engine's.
void World::ChangeOnItsWay(ConnectionRole role, int to, FakeNetwork::Bytes* bytes) {
  constexpr int kTowardsDestination = 1;
  const auto change = changes_.find(role);
  if (to != kTowardsDestination || change == changes_.end()) return;
  if (clock.now_ns() >= change->second.until_ns || bytes->size() == kHelloBytes) return;
  if (!random_.Chance(change->second.percent)) return;
  const size_t first = role == ConnectionRole::kDemand ? kPageFrameBytes : 0;
  const size_t at = first + random_.Below(bytes->size() - first);
  (*bytes)[at] ^= static_cast<std::byte>(1u << random_.Below(8));
  trace.Note(Side::kWorld, "a byte changes on its way", static_cast<uint64_t>(role), at);
}

void World::Cancel(Side side) {
  side == Side::kSource ? source_->Cancel("Ctrl-C") : destination_->Cancel("Ctrl-C");
}

// The engine's process is gone at once: what it held on the network closes, its VM stays, and so
// do its memory, its journal and its guardian.
void World::Kill(Side side) {
  trace.Note(side, "is killed");
  if (side == Side::kSource) {
    source_.reset();
  } else {
    // What it asked of its monitor last may be done without it.
    const bool starting = destination_->vmm().under_way() == "TakeOver";
    destination_.reset();
    destination_killed_ns_ = clock.now_ns();
    for (PageId page : facts.discards_in_hand) {
      std::vector<uint64_t> old(model.WordCount(page.region));
      const auto bytes = std::as_writable_bytes(std::span(old));
      source_memory.Read(page.region, page.index * bytes.size(), bytes).IgnoreError();
      model.MayBeOld(page, std::move(old));
    }
    facts.discards_in_hand.clear();
    // What has landed without being noted, and is taken out by the VMM before another process
    // looks, may be brought once more.
    std::erase_if(facts.brought, [this](PageId page) {
      return destination_memory->table().Get(page) == PageState::kMissing;
    });
    if (saboteur.Is(Canary::kHolesTurnZero) && destination_memory != nullptr) {
      destination_memory->Disarm().IgnoreError();
    }
    if (starting && plan.vm_running && !destination_vm_died && random_.Chance(50)) {
      vm.runs_on_destination = true;
      vm.Note();
    }
  }
  timers_.push_back(clock.Schedule(&hosts_, clock.now_ns() + random_.Between(1, 30'000) * 1000,
                                   [this, side] { Guard(side); }));
  if (!StartsAgain(side)) {
    EndOf(side).over = true;
    return;
  }
  last_restart_ns_ = clock.now_ns() + random_.Between(1, plan.restart_within_us) * 1000;
  timers_.push_back(clock.Schedule(&hosts_, last_restart_ns_, [this, side] { StartAgain(side); }));
}

// As `--resume` finds it in the journal.
bool World::StartsAgain(Side side) const {
  const bool source = side == Side::kSource;
  const FakeJournal& journal = source ? source_journal : destination_journal;
  return (source ? source_end : destination_end).restarts < plan.restarts &&
         journal.Has(source ? JournalPhase::kCommitted : JournalPhase::kLoaded) &&
         !journal.Has(JournalPhase::kCompleted) && !journal.Has(JournalPhase::kRolledBack) &&
         (source || !destination_vm_died);
}

void World::StartAgain(Side side) {
  if (side == Side::kDestination && destination_vm_died) {  // meanwhile: nothing to take up
    destination_end.over = true;
    return;
  }
  trace.Note(side, "is started again");
  if (side == Side::kDestination) {
    destination_down_us += (clock.now_ns() - destination_killed_ns_) / 1000;
  }
  ++EndOf(side).restarts;
  const uint64_t death_step = plan.death_steps[restarts_++];
  if (side == Side::kSource) {
    StartSource(death_step, /*resumes=*/true);
  } else {
    StartDestination(death_step, /*resumes=*/true);
  }
}

// As docs/failures.md has it: a source's guardian restores a VM that was not handed over; one on
// the destination ends a VM that was not loaded, which here never runs anyway.
void World::Guard(Side side) {
  trace.Note(side, "guardian acts");
  if (side == Side::kDestination) return;
  const bool committed = source_journal.Has(JournalPhase::kCommitted);
  if (committed && !saboteur.Is(Canary::kGuardianIgnoresJournal)) return;
  vm.runs_on_source = plan.vm_running;
  vm.Note();
}

FakeFate World::OnControlMessage(const Message& message, bool from_source) {
  const Side side = from_source ? Side::kSource : Side::kDestination;
  trace.Note(side, MessageName(message));
  CheckMessage(message, from_source);
  (from_source ? source_->lifeline() : destination_->lifeline())->Step();
  return CountsForFaults(message) ? faults->OnMessage(side) : FakeFate::kDeliver;
}

void World::CheckMessage(const Message& message, bool from_source) {
  std::vector<std::byte> bytes;
  EncodeMessage(message, &bytes);
  if (bytes.size() > kMessageHeaderBytes + kMessagePayloadBytesMax) {
    watch.Fail(fmt::format("{} has {} bytes", MessageName(message), bytes.size()));
  }
  if (from_source && std::holds_alternative<Commit>(message) &&
      !source_journal.Has(JournalPhase::kCommitted)) {
    watch.Fail("Commit is sent before it is recorded");
  }
  if (std::holds_alternative<PeerError>(message) && !from_source &&
      destination_journal.Has(JournalPhase::kLoaded) &&
      !destination_journal.Has(JournalPhase::kCommitted)) {
    destination_failed_in_doubt = true;
  }
  if (std::holds_alternative<StillMissingEnd>(message)) {
    arrived_once_.OnListed(destination_memory->table());
  }
  if (std::holds_alternative<Loaded>(message) && !destination_journal.Has(JournalPhase::kLoaded)) {
    watch.Fail("Loaded is sent before it is recorded");
  }
}

}  // namespace faultline::sim
