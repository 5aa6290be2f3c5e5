#include "sim/canaries.h"

#include <algorithm>
#include <utility>

#include "pages/page_digest.h"

namespace faultline::sim {
namespace {

constexpr const char* kNames[] = {
    "none",
    "install-overwrites",
    "discard-forgotten",
    "discard-not-punched",
    "run-blindly",
    "late-answer-installed",
    "pages-swapped",
    "answer-turns-zero",
    "answer-lost",
    "run-cut-short",
    "commit-before-record",
    "loaded-before-record",
    "starts-itself",
    "guardian-ignores-journal",
    "holes-turn-zero",
    "map-forgets-pages",
    "holes-noted",
    "discards-unlearned",
    "arrived-sent-again",
    "zero-waiter-forgotten",
    "zero-waiter-lost",
    "nobody-woken",
    "stays-paused",
    "outcome-believed",
    "mismatch-installed",
    "scan-forgets-page",
    "overwrite-lost",
    "old-stays",
    "holes-unnoticed",
};

// The check sum of what a broken engine makes of what came: it is not found out by its own check.
std::optional<uint64_t> Refit(std::optional<uint64_t> digest, PageRun run,
                              std::span<const std::byte> bytes) {
  if (digest.has_value()) digest = DigestOfRun(run, bytes);
  return digest;
}

class BrokenMemory : public GuestMemory {
 public:
  // `unanswered` outlives it.
  BrokenMemory(std::unique_ptr<GuestMemory> inner, Canary canary, std::set<PageId>* unanswered)
      : inner_(std::move(inner)), canary_(canary), unanswered_(unanswered) {}

  PageTable& table() override { return inner_->table(); }
  void StartEvents(Listener* listener) override { inner_->StartEvents(listener); }
  void StopEvents() override { inner_->StopEvents(); }
  absl::Status ReadEvents(MemoryEvents* events) override {
    absl::Status status = inner_->ReadEvents(events);
    if (canary_ == Canary::kDiscardForgotten) events->discards.clear();
    return status;
  }
  InstallResult Install(PageRun run, std::span<const std::byte> data) override {
    if (canary_ == Canary::kInstallOverwrites) inner_->Punch(run).IgnoreError();
    return inner_->Install(run, data);
  }
  InstallResult InstallZeros(PageRun run) override {
    if (canary_ == Canary::kZeroWaiterLost && unanswered_->erase({run.region, run.first}) != 0) {
      return {InstallOutcome::kDone, run.count, 0};
    }
    return inner_->InstallZeros(run);
  }
  absl::Status Punch(PageRun run) override {
    if (canary_ == Canary::kDiscardNotPunched) return absl::OkStatus();
    return inner_->Punch(run);
  }
  absl::Status CheckPreCopy() const override { return inner_->CheckPreCopy(); }
  absl::Status Overwrite(PageRun run, std::span<const std::byte> data) override {
    if (canary_ == Canary::kOverwriteLost) return absl::OkStatus();
    return inner_->Overwrite(run, data);
  }
  absl::Status MakeMissing(PageRun run) override {
    if (canary_ == Canary::kOldStays) return absl::OkStatus();
    return inner_->MakeMissing(run);
  }
  absl::Status Wake(PageRun run) override { return inner_->Wake(run); }
  absl::StatusOr<std::string> Disarm() override { return inner_->Disarm(); }

 private:
  const std::unique_ptr<GuestMemory> inner_;
  const Canary canary_;
  std::set<PageId>* const unanswered_;
};

class BrokenReader : public PageReader, public PageReader::Listener {
 public:
  // All arguments outlive it.
  BrokenReader(PageReader* inner, GuestMemory* memory, Canary canary, std::set<PageId>* unanswered)
      : inner_(inner), memory_(memory), canary_(canary), unanswered_(unanswered) {}

  void Start(PageReader::Listener* listener) override {
    listener_ = listener;
    inner_->Start(this);
  }
  void Read(std::span<const PageId> pages) override {
    unanswered_->insert(pages.begin(), pages.end());
    inner_->Read(pages);
  }
  void Stop() override { inner_->Stop(); }

  void OnPage(PageId page, std::span<const std::byte> bytes,
              std::optional<uint64_t> digest) override {
    unanswered_->erase(page);
    const bool absent = memory_->table().Get(page) == PageState::kAbsent;
    if (canary_ == Canary::kZeroWaiterForgotten && absent) return;
    const bool unlucky = ++answers_ % 4 == 0;
    if (canary_ == Canary::kAnswerLost && unlucky) return;
    if (canary_ == Canary::kAnswerTurnsZero && unlucky) bytes = {};
    const bool refits =
        canary_ == Canary::kAnswerTurnsZero || canary_ == Canary::kMismatchInstalled;
    if (refits) digest = Refit(digest, {page.region, page.index, 1}, bytes);
    listener_->OnPage(page, bytes, digest);
    if (canary_ != Canary::kLateAnswerInstalled || bytes.empty()) return;
    const bool again = last_page_ == page && !last_bytes_.empty();
    if (again) memory_->Install({page.region, page.index, 1}, last_bytes_);
    last_page_ = page;
    last_bytes_.assign(bytes.begin(), bytes.end());
  }
  void OnReaderFailed(absl::Status status) override {
    listener_->OnReaderFailed(std::move(status));
  }

 private:
  PageReader* const inner_;
  GuestMemory* const memory_;
  const Canary canary_;
  std::set<PageId>* const unanswered_;
  PageReader::Listener* listener_ = nullptr;
  uint64_t answers_ = 0;
  PageId last_page_;
  std::vector<std::byte> last_bytes_;
};

class BrokenReceiver : public PushReceiver, public PushReceiver::Listener {
 public:
  BrokenReceiver(PushReceiver* inner, GuestMemory* memory, MemoryLayout layout, Canary canary)
      : inner_(inner), memory_(memory), layout_(std::move(layout)), canary_(canary) {}

  void Start(PushReceiver::Listener* listener) override {
    listener_ = listener;
    inner_->Start(this);
  }
  void Resume() override { inner_->Resume(); }
  void Stop() override { inner_->Stop(); }

  bool OnRun(PageRun run, std::span<const std::byte> bytes,
             std::optional<uint64_t> digest) override {
    if (canary_ == Canary::kRunInstalledBlindly && !bytes.empty()) memory_->Install(run, bytes);
    if (canary_ == Canary::kPagesSwapped && run.count > 1 && !bytes.empty())
      return OfferSwapped(run, bytes, digest);
    if (canary_ == Canary::kZeroRunLost && run.count > 1) {
      const uint64_t page_bytes = layout_[run.region].page_size_bytes;
      const PageRun cut{run.region, run.first, run.count - 1};
      const std::span<const std::byte> kept =
          bytes.empty() ? bytes : bytes.first(cut.count * page_bytes);
      return listener_->OnRun(cut, kept, Refit(digest, cut, kept)) &&
             memory_->table().Change({run.region, run.end() - 1}, PageState::kMissing,
                                     PageState::kInstalled);
    }
    if (canary_ == Canary::kMismatchInstalled) digest = Refit(digest, run, bytes);
    return listener_->OnRun(run, bytes, digest);
  }
  void OnRoundMark(PageFrameKind mark, uint32_t round) override {
    listener_->OnRoundMark(mark, round);
  }
  void OnPushFinished() override { listener_->OnPushFinished(); }
  void OnReceiverFailed(absl::Status status) override {
    listener_->OnReceiverFailed(std::move(status));
  }

 private:
  bool OfferSwapped(PageRun run, std::span<const std::byte> bytes, std::optional<uint64_t> digest) {
    const auto page_bytes = static_cast<ptrdiff_t>(layout_[run.region].page_size_bytes);
    std::vector<std::byte> mixed(bytes.begin(), bytes.end());
    std::swap_ranges(mixed.begin(), mixed.begin() + page_bytes, mixed.begin() + page_bytes);
    return listener_->OnRun(run, mixed, Refit(digest, run, mixed));
  }

  PushReceiver* const inner_;
  GuestMemory* const memory_;
  const MemoryLayout layout_;
  const Canary canary_;
  PushReceiver::Listener* listener_ = nullptr;
};

// Pushes all there is, whatever it is told to push.
class GreedyOrder : public PushOrder {
 public:
  explicit GreedyOrder(std::unique_ptr<PushOrder> inner) : inner_(std::move(inner)) {}

  void SetHistory(const WriteHistory* history) override { inner_->SetHistory(history); }
  void Start(const MemoryLayout& layout, const AllocationMap&) override {
    everything_.clear();
    for (const RegionLayout& region : layout)
      everything_.emplace_back().Add(0, region.page_count());
    inner_->Start(layout, everything_);
  }
  void OnDemand(PageId page) override { inner_->OnDemand(page); }
  PageRun Next(uint64_t bytes_max) override { return inner_->Next(bytes_max); }
  uint64_t pages_left() const override { return inner_->pages_left(); }

 private:
  const std::unique_ptr<PushOrder> inner_;
  AllocationMap everything_;
};

// Says that the VM goes on, and leaves it paused.
class StubbornVmm : public DestinationVmm {
 public:
  StubbornVmm(DestinationVmm* inner, ManualExecutor* control) : inner_(inner), control_(control) {}

  void Prepare(VmmDescribed done) override { inner_->Prepare(std::move(done)); }
  void DescribeAgain(VmmDescribed done) override { inner_->DescribeAgain(std::move(done)); }
  void Load(VmmDone done) override { inner_->Load(std::move(done)); }
  void FeedDeviceState(std::span<const std::byte> bytes) override {
    inner_->FeedDeviceState(bytes);
  }
  void EndDeviceState() override { inner_->EndDeviceState(); }
  void TakeOver(bool run, VmmDone done) override { inner_->TakeOver(run, std::move(done)); }
  void SetPaused(bool paused, VmmDone done) override {
    if (paused) return inner_->SetPaused(true, std::move(done));
    control_->Post([done = std::move(done)] { done(absl::OkStatus()); });
  }
  void Finish(VmmDone done) override { inner_->Finish(std::move(done)); }
  void Discard(VmmDone done) override { inner_->Discard(std::move(done)); }

 private:
  DestinationVmm* const inner_;
  ManualExecutor* const control_;
};

// Says that a record is written, and writes it a little later.
class HastyJournal : public Journal {
 public:
  HastyJournal(std::unique_ptr<Journal> inner, ManualExecutor* control, JournalPhase phase)
      : inner_(std::move(inner)), control_(control), phase_(phase) {}

  absl::Status Record(JournalPhase phase) override {
    if (phase != phase_) return inner_->Record(phase);
    control_->Post([this, phase] { inner_->Record(phase).IgnoreError(); });
    return absl::OkStatus();
  }
  absl::Status Keep(const KeptTerms& terms, const VmDescription& vm) override {
    return inner_->Keep(terms, vm);
  }
  absl::Status MakeDurable() override { return inner_->MakeDurable(); }

 private:
  const std::unique_ptr<Journal> inner_;
  ManualExecutor* const control_;
  const JournalPhase phase_;
};

}  // namespace

std::vector<Canary> AllCanaries() {
  std::vector<Canary> all;
  for (size_t i = 1; i < std::size(kNames); ++i) all.push_back(static_cast<Canary>(i));
  return all;
}

const char* CanaryName(Canary canary) { return kNames[static_cast<size_t>(canary)]; }

std::optional<Canary> CanaryNamed(std::string_view name) {
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) return std::nullopt;
  return static_cast<Canary>(found - std::begin(kNames));
}

std::unique_ptr<GuestMemory> Saboteur::BreakMemory(std::unique_ptr<GuestMemory> memory) {
  const bool broken = Is(Canary::kInstallOverwrites) || Is(Canary::kDiscardForgotten) ||
                      Is(Canary::kDiscardNotPunched) || Is(Canary::kZeroWaiterLost) ||
                      Is(Canary::kOverwriteLost) || Is(Canary::kOldStays);
  if (broken) memory = std::make_unique<BrokenMemory>(std::move(memory), canary_, &unanswered_);
  memory_ = memory.get();
  return memory;
}

DestinationTransport::Lanes Saboteur::BreakLanes(DestinationTransport::Lanes lanes,
                                                 const MemoryLayout& layout) {
  const bool mismatch = Is(Canary::kMismatchInstalled);
  if (mismatch || Is(Canary::kLateAnswerInstalled) || Is(Canary::kAnswerTurnsZero) ||
      Is(Canary::kAnswerLost) || Is(Canary::kZeroWaiterForgotten) || Is(Canary::kZeroWaiterLost)) {
    reader_ = std::make_unique<BrokenReader>(lanes.reader, memory_, canary_, &unanswered_);
    lanes.reader = reader_.get();
  }
  if (mismatch || Is(Canary::kRunInstalledBlindly) || Is(Canary::kPagesSwapped) ||
      Is(Canary::kZeroRunLost)) {
    receiver_ = std::make_unique<BrokenReceiver>(lanes.push, memory_, layout, canary_);
    lanes.push = receiver_.get();
  }
  return lanes;
}

std::unique_ptr<PushOrder> Saboteur::BreakOrder(std::unique_ptr<PushOrder> order) {
  if (Is(Canary::kArrivedSentAgain)) return std::make_unique<GreedyOrder>(std::move(order));
  return order;
}

DestinationTransport::Arrived Saboteur::BreakArrivals(DestinationTransport::Arrived arrived) const {
  if (!Is(Canary::kOutcomeBelieved)) return arrived;
  return
      [this, arrived = std::move(arrived)](Hello hello, std::unique_ptr<ControlChannel> channel) {
        const bool believed = hello.role == ConnectionRole::kOutcome && is_owner_();
        if (believed) hello.role = ConnectionRole::kResume;
        arrived(hello, std::move(channel));
      };
}

DestinationVmm* Saboteur::BreakVmm(DestinationVmm* inner, ManualExecutor* control) {
  if (!Is(Canary::kStaysPaused)) return inner;
  vmm_ = std::make_unique<StubbornVmm>(inner, control);
  return vmm_.get();
}

void Saboteur::BreakState(PageId page, PageTable* table) const {
  if (Is(Canary::kHolesNoted) && page.index % 4 == 0) {
    table->Change(page, PageState::kMissing, PageState::kInstalled);
  }
  if (Is(Canary::kDiscardsUnlearned)) {
    table->Change(page, PageState::kDiscarded, PageState::kMissing);
  }
}

std::unique_ptr<Journal> Saboteur::BreakJournal(std::unique_ptr<Journal> journal,
                                                ManualExecutor* control) {
  const bool commit = Is(Canary::kCommitBeforeRecord);
  if (!commit && !Is(Canary::kLoadedBeforeRecord)) return journal;
  return std::make_unique<HastyJournal>(std::move(journal), control,
                                        commit ? JournalPhase::kCommitted : JournalPhase::kLoaded);
}

}  // namespace faultline::sim
