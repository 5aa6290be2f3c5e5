#include "sim/guest.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace faultline::sim {
namespace {

// More than any thread of the engine waits for a processor.
constexpr int64_t kWokenWithinNs = 60'000'000;
constexpr int64_t kRoomIsNoticedWithinNs = 250'000'000;

}  // namespace

class Guest::Actor {
 public:
  Actor(Guest* guest, const Plan& plan)
      : guest_(guest),
        interval_us_(plan.act_interval_us),
        acts_before_(plan.acts_before),
        acts_after_(plan.acts_after) {}

  // Goes on if it may, unless it does already or waits for something.
  void Wake() {
    if (timer_ != nullptr || waiting_) return;
    const int64_t delay_ns =
        1 + static_cast<int64_t>(random().Below(static_cast<uint64_t>(interval_us_) * 1000));
    timer_ = clock().Schedule(&guest_->cpus_, clock().now_ns() + delay_ns, [this] {
      timer_.reset();
      Act();
    });
  }
  bool waiting() const { return waiting_; }
  bool in_fault() const { return waiting_ && again_; }
  PageId page() const { return access_.page; }
  int64_t waits_since_ns() const { return waits_since_ns_; }

 private:
  enum class Kind : uint8_t { kRead, kWrite };
  struct Access {
    Kind kind = Kind::kRead;
    PageId page;
    uint64_t word = 0;
    uint64_t value = 0;  // to write
  };

  Random& random() { return guest_->random_; }
  ManualClock& clock() { return *guest_->parts_.clock; }
  ModelMemory& model() { return *guest_->parts_.model; }
  Trace& trace() { return *guest_->parts_.trace; }
  FakeGuestMemory& memory() { return *guest_->destination_memory_; }

  void Act();
  void ActOnSource();
  void ActOnDestination();
  bool AccessOnDestination();
  bool DrawAccess();
  void Check(uint64_t seen, const char* where);
  void Wait();
  void DiscardOnSource(PageId page);
  bool DiscardOnDestination(PageId page);

  Guest* const guest_;
  const int64_t interval_us_;
  int acts_before_;
  int acts_after_;
  bool waiting_ = false;
  bool again_ = false;  // access_ was begun and is to be done again
  int64_t waits_since_ns_ = 0;
  Access access_;
  PageRun given_up_;
  std::unique_ptr<Timer> timer_;
  std::unique_ptr<Timer> report_timer_;
};

void Guest::Actor::Act() {
  if (guest_->parts_.watch->failed()) return;
  if (guest_->parts_.vm->runs_on_source) {
    if (acts_before_ == 0) return;
    --acts_before_;
    ActOnSource();
  } else if (guest_->parts_.vm->runs_on_destination) {
    if (!again_) {
      if (acts_after_ == 0) return;
      --acts_after_;
    }
    ActOnDestination();
  } else {
    return;  // it stands still; OnVmChanged wakes it
  }
  Wake();
}

// False if the page that was drawn is not to be touched now.
bool Guest::Actor::DrawAccess() {
  const PageId page = guest_->AnyPage();
  if (model().InDiscard(page)) return false;
  access_ = {.kind = random().Chance(60) ? Kind::kRead : Kind::kWrite,
             .page = page,
             .word = random().Below(model().WordCount(page.region)),
             .value = random().Next()};
  return true;
}

void Guest::Actor::Check(uint64_t seen, const char* where) {
  ++guest_->reads_checked_;
  trace().Note(Side::kWorld, "reads", access_.page.region, access_.page.index, seen);
  if (model().Accepts(access_.page, access_.word, seen)) return;
  const uint64_t expected = model().Read(access_.page, access_.word);
  guest_->parts_.watch->Fail(fmt::format(
      "the guest read {:#x} where it must read {:#x}: word {} of page {} of region {}, {}", seen,
      expected, access_.word, access_.page.index, access_.page.region, where));
}

void Guest::Actor::ActOnSource() {
  if (!DrawAccess()) return;
  FakeSourceMemory& memory = *guest_->parts_.source_memory;
  if (guest_->discards_ && random().Chance(6)) return DiscardOnSource(access_.page);
  if (access_.kind == Kind::kRead) {
    return Check(memory.ReadWord(access_.page, access_.word), "on the source");
  }
  memory.WriteWord(access_.page, access_.word, access_.value);
  guest_->parts_.writes->Write(access_.page);
  model().Write(access_.page, access_.word, access_.value);
}

void Guest::Actor::DiscardOnSource(PageId page) {
  trace().Note(Side::kWorld, "gives up at the source", page.region, page.index);
  guest_->parts_.source_memory->Punch(page);
  model().Zero(page);
}

void Guest::Actor::ActOnDestination() {
  if (!again_) {
    if (!DrawAccess()) return;
    if (guest_->discards_ && random().Chance(8) && DiscardOnDestination(access_.page)) return;
  }
  if (!AccessOnDestination()) return Wait();
  if (std::exchange(again_, false)) guest_->in_access_.erase(guest_->in_access_.find(access_.page));
}

// False if the page is not there.
bool Guest::Actor::AccessOnDestination() {
  if (access_.kind == Kind::kRead) {
    std::optional<uint64_t> seen = memory().ReadWord(access_.page, access_.word);
    if (seen.has_value()) Check(*seen, "on the destination");
    return seen.has_value();
  }
  if (!memory().WriteWord(access_.page, access_.word, access_.value)) return false;
  trace().Note(Side::kWorld, "writes", access_.page.region, access_.page.index, access_.value);
  model().Write(access_.page, access_.word, access_.value);
  return true;
}

void Guest::Actor::Wait() {
  waiting_ = true;
  waits_since_ns_ = clock().now_ns();
  trace().Note(Side::kWorld, "faults", access_.page.region, access_.page.index);
  if (!std::exchange(again_, true)) guest_->in_access_.insert(access_.page);
  memory().Touch(access_.page, [this](const std::vector<std::byte>&) {
    waiting_ = false;
    Wake();
  });
}

// As a VMM does it for a balloon: some pages leave the RAM file, a moment later the discard is
// reported, and once it has been read the guest may use them again. False if another actor is at
// one of them.
bool Guest::Actor::DiscardOnDestination(PageId page) {
  const uint64_t page_count = model().layout()[page.region].page_count();
  const PageRun run{page.region, page.index,
                    std::min(1 + random().Below(4), page_count - page.index)};
  for (uint64_t index = run.first; index < run.end(); ++index) {
    const PageId one{run.region, index};
    if (model().InDiscard(one) || guest_->in_access_.contains(one)) return false;
  }
  trace().NotePages(Side::kWorld, "gives up", run);
  waiting_ = true;
  given_up_ = run;
  for (uint64_t i = run.first; i < run.end(); ++i) model().BeginDiscard({run.region, i});
  memory().PunchByVmm(run);
  const int64_t between_ns =
      random().Chance(50) ? 0 : static_cast<int64_t>(random().Below(2'000'000));
  report_timer_ = clock().Schedule(&guest_->cpus_, clock().now_ns() + between_ns, [this] {
    memory().ReportDiscard(given_up_, [this] {
      for (uint64_t i = given_up_.first; i < given_up_.end(); ++i) {
        model().EndDiscard({given_up_.region, i});
      }
      waiting_ = false;
      Wake();
    });
  });
  return true;
}

Guest::Guest(const Parts& parts, const Plan& plan)
    : parts_(parts),
      discards_(plan.guest_discards),
      random_(plan.seed ^ 0x677565737400u),
      cpus_(parts.clock, "guest") {
  for (int i = 0; i < plan.actors; ++i) actors_.push_back(std::make_unique<Actor>(this, plan));
}

Guest::~Guest() = default;

void Guest::Start() {
  for (auto& actor : actors_) actor->Wake();
}

void Guest::OnVmChanged() { Start(); }

// Letting the memory go wakes them too, so a guest that was forgotten only loses time.
void Guest::ExpectNobodyForgotten(const MemoryFacts& facts) {
  const int64_t now_ns = parts_.clock->now_ns();
  for (const auto& actor : actors_) {
    const PageId page = actor->page();
    if (!actor->in_fault() || facts.asked.contains(page)) continue;
    auto answered = facts.answered_ns.find(page);
    const int64_t room_ns =
        facts.no_memory_until_ns == 0 ? 0 : facts.no_memory_until_ns + kRoomIsNoticedWithinNs;
    const int64_t since_ns =
        std::max({actor->waits_since_ns(), facts.began_ns, room_ns,
                  answered == facts.answered_ns.end() ? int64_t{0} : answered->second});
    if (now_ns - since_ns < kWokenWithinNs) continue;
    parts_.watch->Fail(
        fmt::format("somebody was left waiting: page {} of region {}", page.index, page.region));
  }
}

int Guest::waiting_count() const {
  return static_cast<int>(std::count_if(actors_.begin(), actors_.end(),
                                        [](const auto& actor) { return actor->waiting(); }));
}

PageId Guest::AnyPage() {
  const MemoryLayout& layout = parts_.model->layout();
  const auto region = static_cast<RegionIndex>(random_.Below(layout.size()));
  return {region, random_.Below(layout[region].page_count())};
}

}  // namespace faultline::sim
