#include "engine/fault_handler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "engine/install_error.h"
#include "engine/install_retry.h"
#include "pages/page_digest.h"

namespace faultline {
namespace {

constexpr int64_t kDrainIntervalUs = 10'000;
// Pages asked for at a time once the pusher is through; the guest's own faults come on top.
constexpr size_t kRestInFlightMax = 64;
constexpr int64_t kNobodyWaits = -1;
constexpr size_t kInFlightExpected = 4096;

uint64_t SmallestPageBytes(const MemoryLayout& layout) {
  uint64_t smallest = std::numeric_limits<uint64_t>::max();
  for (const RegionLayout& region : layout) smallest = std::min(smallest, region.page_size_bytes);
  return smallest;
}

}  // namespace

FaultHandler::FaultHandler(Executor* executor, GuestMemory* memory, InstallGate* gate,
                           TransferCounters* counters, TransferListener* listener,
                           ReadAround around)
    : executor_(executor),
      memory_(memory),
      gate_(gate),
      counters_(counters),
      listener_(listener),
      page_bytes_min_(SmallestPageBytes(memory->table().layout())),
      around_(around) {
  in_flight_.reserve(kInFlightExpected);
  awaited_.reserve(kInFlightExpected);
}

void FaultHandler::Start() {
  FAULTLINE_CHECK(!started_);
  started_ = true;
  await_alarm_ = executor_->MakeAlarm([this] { LookAtAwaited(); });
  memory_->StartEvents(this);
}

void FaultHandler::Connect(PageReader* reader, bool integrity) {
  FAULTLINE_CHECK(started_ && reader_ == nullptr);
  reader_ = reader;
  integrity_ = integrity;
  reader_failed_ = false;
  reader_->Start(this);
  awaited_.clear();  // they are asked for now, as the others are
  await_alarm_->Clear();
  // What nobody waits for comes with the push.
  absl::erase_if(in_flight_, [this](const auto& entry) {
    return entry.second.read_ns == kNobodyWaits && !IsDeferredAnswer(entry.first);
  });
  std::vector<PageId> here;
  for (const auto& [page, request] : in_flight_) {
    if (IsDeferredAnswer(page)) continue;
    const bool is_missing = memory_->table().Get(page) == PageState::kMissing;
    (is_missing ? wanted_ : here).push_back(page);
  }
  // What was pushed meanwhile needs no answer from the source; whoever waits for a page that was
  // pushed as zeros has had none.
  for (PageId page : here) AnswerFault(page);
  // Who has waited longest comes first.
  std::ranges::sort(wanted_, {}, [this](PageId page) {
    return std::pair(in_flight_.find(page)->second.read_ns, page);
  });
  SendWanted();
}

void FaultHandler::Disconnect() {
  fetching_rest_ = false;
  if (reader_ != nullptr) std::exchange(reader_, nullptr)->Stop();
}

// On this thread, so that no event is judged by a state that is changing.
absl::Status FaultHandler::MakeMissing(std::span<const PageRun> runs) {
  for (const PageRun& run : runs) RETURN_IF_ERROR(memory_->MakeMissing(run));
  return absl::OkStatus();
}

absl::StatusOr<std::string> FaultHandler::Disarm() {
  {
    InstallGate::Closure closure(gate_);
    ReadEvents();  // what waits still goes by the table
    if (reader_ == nullptr || reader_failed_) AnswerWhoAskedInVain();
    for (const Awaited& awaited : std::exchange(awaited_, {})) EndAwait(awaited.page);
  }
  if (await_alarm_ != nullptr) await_alarm_->Clear();
  retry_timer_.reset();
  deferred_.clear();  // holes are zero from here on
  absl::StatusOr<std::string> let_go = memory_->Disarm();
  disarmed_ = true;
  Drain();
  return let_go;
}

// Their lane broke, and what they wait for was pushed as zeros since then.
void FaultHandler::AnswerWhoAskedInVain() {
  std::vector<PageId> waiting;
  for (const auto& [page, request] : in_flight_) {
    const bool is_here = memory_->table().Get(page) != PageState::kMissing;
    if (is_here && request.read_ns != kNobodyWaits && !IsDeferredAnswer(page)) {
      waiting.push_back(page);
    }
  }
  for (PageId page : waiting) AnswerFault(page);
}

// A discard that began before the memory was disarmed may queue its event after it, and the guest's
// thread waits there until somebody has read it. Nothing is done about these pages: none of them
// was copied lately, and to punch them now would race with the guest's own writes.
void FaultHandler::Drain() {
  events_.Clear();
  if (!memory_->ReadEvents(&events_).ok()) return;  // the process is gone: nobody waits
  retry_timer_ = executor_->RunAfter(kDrainIntervalUs, [this] { Drain(); });
}

void FaultHandler::Stop() {
  retry_timer_.reset();
  await_alarm_.reset();
  if (reader_ != nullptr) std::exchange(reader_, nullptr)->Stop();
  if (std::exchange(started_, false)) memory_->StopEvents();
}

void FaultHandler::OnEventsReady() {
  if (disarmed_) return Drain();
  {
    // Until the requests are out: whoever is let in again takes a processor.
    InstallGate::Closure closure(gate_);
    if (!ReadEvents()) return;
    AnswerFaults(events_.faults);
  }
  if (!deferred_.empty()) RetryDeferred();
}

// Takes in everything that waits, with the gate closed; discards are in force before it returns.
bool FaultHandler::ReadEvents() {
  if (failed_) return false;
  events_.Clear();
  absl::Status status = memory_->ReadEvents(&events_);
  for (const PageRun& run : events_.discards) ApplyDiscard(run);
  counters_->faults.fetch_add(events_.faults.size(), std::memory_order_relaxed);
  if (!status.ok()) {
    SetFailed(Annotate(status, "read the guest's page faults"));
    return false;
  }
  if (!events_.discards.empty() && memory_->table().missing_pages() == 0) {
    listener_->OnAllPresent();
  }
  return true;
}

// The hypervisor took the pages out of the file before the event came; a copy may have landed in
// between, so what is there is taken out again.
void FaultHandler::ApplyDiscard(PageRun run) {
  memory_->table().Discard(run);
  counters_->pages_discarded.fetch_add(run.count, std::memory_order_relaxed);
  absl::Status status = memory_->Punch(run);
  if (!status.ok()) listener_->OnTransferFailed(Annotate(status, "discard pages for the guest"));
}

void FaultHandler::AnswerFaults(std::span<const PageId> pages) {
  // Where pages of several sizes come, this says too little rather than too much.
  around_.Note(executor_->NowNanos(),
               counters_->pages_pushed.load(std::memory_order_relaxed) * page_bytes_min_);
  for (PageId page : pages) AnswerFault(page);
  SendWanted();
}

void FaultHandler::AnswerFault(PageId page) {
  if (memory_->table().Get(page) == PageState::kMissing) {
    Fetch(page);
  } else if (!Install(page, {})) {
    Defer({.page = page, .answered = false, .bytes = {}});
  }
}

void FaultHandler::SendWanted() {
  // Without a reader they are remembered in in_flight_.
  if (!wanted_.empty() && reader_ != nullptr && !reader_failed_) {
    reader_->Read(wanted_);
    const int64_t now_ns = executor_->NowNanos();
    for (PageId page : wanted_) {
      if (auto entry = in_flight_.find(page); entry != in_flight_.end()) {
        entry->second.sent_ns = now_ns;
      }
    }
  }
  wanted_.clear();
}

void FaultHandler::Fetch(PageId page) {
  auto [entry, is_new] = in_flight_.try_emplace(page);
  if (!is_new && entry->second.read_ns != kNobodyWaits) return;
  entry->second.read_ns = executor_->NowNanos();
  if (!is_new || Await(page)) return;
  wanted_.push_back(page);
  FetchAround(page);
}

bool FaultHandler::Await(PageId page) {
  const uint64_t page_bytes = memory_->table().layout()[page.region].page_size_bytes;
  const uint64_t position = counters_->push_front.position();
  const uint64_t away = PushFront::PagesAway(position, page, around_.OnTheWayPages(page_bytes));
  // The push may stand, or be held back at the source: then what comes next is not on its way.
  if (away == 0 || position == missed_position_) return false;
  if (around_.CarryNs(away * page_bytes) > answer_ns_) return false;
  awaited_.push_back({page, executor_->NowNanos() + around_.AwaitNs()});
  if (!await_alarm_->is_set()) await_alarm_->Set(around_.AwaitNs() / 1000);
  return true;
}

void FaultHandler::LookAtAwaited() {
  const int64_t now_ns = executor_->NowNanos();
  const auto due_end = std::ranges::find_if(
      awaited_, [now_ns](const Awaited& awaited) { return awaited.until_ns > now_ns; });
  std::for_each(awaited_.begin(), due_end, [this](const Awaited& due) { EndAwait(due.page); });
  awaited_.erase(awaited_.begin(), due_end);
  if (!awaited_.empty()) await_alarm_->Set((awaited_.front().until_ns - now_ns + 999) / 1000);
  SendWanted();
  if (fetching_rest_) FetchMore();
}

void FaultHandler::EndAwait(PageId page) {
  auto entry = in_flight_.find(page);
  if (entry == in_flight_.end()) return;
  switch (memory_->table().Get(page)) {
    case PageState::kMissing:
      missed_position_ = counters_->push_front.position();
      wanted_.push_back(page);
      break;
    case PageState::kInstalled:  // whoever waited was woken by that
      in_flight_.erase(entry);
      break;
    default:  // zeros, or given up: who has not faulted again yet
      AnswerFault(page);
  }
}

// The rest of the block, after the page itself.
void FaultHandler::FetchAround(PageId page) {
  const RegionLayout& region = memory_->table().layout()[page.region];
  const uint64_t block_pages = around_.BlockPages(region.page_size_bytes);
  if (block_pages == 1) return;
  const uint64_t begin = page.index / block_pages * block_pages;
  const uint64_t end = std::min(begin + block_pages, region.page_count());
  for (PageId other{page.region, begin}; other.index < end; ++other.index) {
    if (memory_->table().Get(other) == PageState::kMissing &&
        in_flight_.try_emplace(other, Request{.read_ns = kNobodyWaits}).second) {
      wanted_.push_back(other);
    }
  }
}

void FaultHandler::OnPage(PageId page, std::span<const std::byte> bytes,
                          std::optional<uint64_t> digest) {
  if (disarmed_) return;
  if (const PageRun run{page.region, page.index, 1};
      integrity_ && digest != DigestOfRun(run, bytes)) {
    Disconnect();
    listener_->OnMismatch(run);
    // What was pushed meanwhile needs no source.
    const bool is_missing = memory_->table().Get(page) == PageState::kMissing;
    if (!is_missing && in_flight_.contains(page) && !IsDeferredAnswer(page)) AnswerFault(page);
    return;
  }
  auto entry = in_flight_.find(page);
  // A second answer to one question is the peer's mistake, and must not pile up here.
  if (entry == in_flight_.end() || IsDeferredAnswer(page)) return;
  entry->second.answered_ns = executor_->NowNanos();
  if (const Request& request = entry->second; request.sent_ns != 0) {
    const int64_t took_ns = request.answered_ns - request.sent_ns;
    answer_ns_ = answer_ns_ == 0 ? took_ns : (7 * answer_ns_ + took_ns) / 8;
  }
  if (entry->second.read_ns == kNobodyWaits && memory_->table().Get(page) != PageState::kMissing) {
    in_flight_.erase(entry);
  } else if (!Install(page, bytes)) {
    Defer({.page = page, .answered = true, .bytes = {bytes.begin(), bytes.end()}});
  }
  if (fetching_rest_) FetchMore();
}

// Nothing can be put in any more; events that are not read would wake this thread without end.
void FaultHandler::SetFailed(const absl::Status& status) {
  failed_ = true;
  memory_->StopEvents();
  listener_->OnTransferFailed(status);
}

bool FaultHandler::IsDeferredAnswer(PageId page) const {
  return std::any_of(deferred_.begin(), deferred_.end(), [page](const Deferred& deferred) {
    return deferred.answered && deferred.page == page;
  });
}

bool FaultHandler::Install(PageId page, std::span<const std::byte> bytes) {
  const PageState state = memory_->table().Get(page);
  const PageRun run{page.region, page.index, 1};
  InstallResult result = state == PageState::kMissing && !bytes.empty()
                             ? memory_->Install(run, bytes)
                             : memory_->InstallZeros(run);
  switch (result.outcome) {
    case InstallOutcome::kDone:
      SetOutOfMemory(false);
      [[fallthrough]];
    case InstallOutcome::kPresent:
      Settle(page, state == PageState::kMissing);
      return true;
    case InstallOutcome::kRetry:
      return false;
    case InstallOutcome::kNoSpace:
      SetOutOfMemory(true);
      return false;
    case InstallOutcome::kGone:
      // Memory that was unplugged: its end came as a discard, and nobody can wait for it any more.
      if (state == PageState::kDiscarded) {
        Settle(page, /*was_missing=*/false);
        return true;
      }
      break;
    case InstallOutcome::kFailed:
      break;
  }
  SetFailed(InstallError(result, memory_->table().layout(), {page.region, page.index, 1}));
  return true;
}

// The page is there, and whoever waited was woken.
void FaultHandler::Settle(PageId page, bool was_missing) {
  if (was_missing && memory_->table().Change(page, PageState::kMissing, PageState::kInstalled)) {
    counters_->pages_demand.fetch_add(1, std::memory_order_relaxed);
  }
  auto entry = in_flight_.find(page);
  if (entry != in_flight_.end()) {
    if (was_missing && entry->second.read_ns != kNobodyWaits) RecordStages(entry->second);
    in_flight_.erase(entry);
  }
  if (memory_->table().missing_pages() == 0) listener_->OnAllPresent();
}

void FaultHandler::RecordStages(const Request& request) {
  const int64_t now_ns = executor_->NowNanos();
  counters_->fault_latency_us.Record(static_cast<uint64_t>(now_ns - request.read_ns) / 1000);
  // Otherwise the page was on its way before anybody touched it.
  if (request.sent_ns < request.read_ns || request.answered_ns < request.sent_ns) return;
  FaultStages& stages = counters_->fault_stages;
  stages.read_to_sent_ns.Record(static_cast<uint64_t>(request.sent_ns - request.read_ns));
  stages.sent_to_answered_ns.Record(static_cast<uint64_t>(request.answered_ns - request.sent_ns));
  stages.answered_to_installed_ns.Record(static_cast<uint64_t>(now_ns - request.answered_ns));
}

void FaultHandler::Defer(Deferred deferred) {
  deferred_.push_back(std::move(deferred));
  if (retry_timer_ == nullptr) {
    retry_timer_ = executor_->RunAfter(out_of_memory_ ? kNoSpaceDelayUs : kRetryDelayUs,
                                       [this] { RetryDeferred(); });
  }
}

void FaultHandler::RetryDeferred() {
  retry_timer_.reset();
  for (Deferred& deferred : std::exchange(deferred_, {})) {
    if (!deferred.answered) {
      AnswerFault(deferred.page);
    } else if (!Install(deferred.page, deferred.bytes)) {
      Defer(std::move(deferred));
    }
  }
  SendWanted();
  // Others may have brought what there was no room for.
  if (deferred_.empty()) SetOutOfMemory(false);
  if (fetching_rest_) FetchMore();
}

void FaultHandler::SetOutOfMemory(bool out) {
  if (out == out_of_memory_) return;
  out_of_memory_ = out;
  listener_->OnOutOfMemory(out);
}

void FaultHandler::FetchRest() {
  fetching_rest_ = true;
  rest_cursor_ = {};
  FetchMore();
}

void FaultHandler::FetchMore() {
  const MemoryLayout& layout = memory_->table().layout();
  while (in_flight_.size() < kRestInFlightMax && rest_cursor_.region < layout.size()) {
    uint64_t page_count = layout[rest_cursor_.region].page_count();
    PageRun missing = memory_->table().FindMissing(
        {rest_cursor_.region, rest_cursor_.index, page_count - rest_cursor_.index});
    if (missing.empty()) {
      rest_cursor_ = {rest_cursor_.region + 1, 0};
      continue;
    }
    rest_cursor_.index = missing.first + 1;
    PageId page{missing.region, missing.first};
    if (in_flight_.try_emplace(page, Request{.read_ns = kNobodyWaits}).second)
      wanted_.push_back(page);
  }
  SendWanted();
}

void FaultHandler::OnReaderFailed(absl::Status status) {
  if (disarmed_) return;
  reader_failed_ = true;  // what needs no source is answered all the same
  listener_->OnLaneFailed(Annotate(status, "demand lane"));
}

}  // namespace faultline
