#include "engine/bulk_receiver.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/install_error.h"
#include "engine/install_retry.h"
#include "pages/page_digest.h"

namespace faultline {
namespace {

// What one pass through the gate installs at most: a fault that comes meanwhile waits for it (about
// 20 us).
constexpr uint64_t kPassBytesMax = 64 * 1024;

}  // namespace

BulkReceiver::BulkReceiver(Executor* executor, GuestMemory* memory, InstallGate* gate,
                           TransferCounters* counters, TransferListener* listener)
    : executor_(executor), memory_(memory), gate_(gate), counters_(counters), listener_(listener) {}

void BulkReceiver::Start(PushReceiver* receiver, bool integrity) {
  receiver_ = receiver;
  integrity_ = integrity;
  receiver_->Start(this);
}

void BulkReceiver::Stop() {
  resume_timer_.reset();
  round_ = 0;
  SetOutOfMemory(false);  // nothing waits for room any more
  counters_->push_front.Clear();
  if (receiver_ != nullptr) std::exchange(receiver_, nullptr)->Stop();
}

InstallResult BulkReceiver::InstallMissing(PageRun run, std::span<const std::byte> bytes) {
  PageTable& table = memory_->table();
  const uint64_t page_bytes = table.layout()[run.region].page_size_bytes;
  const uint64_t pass_pages = std::max<uint64_t>(1, kPassBytesMax / page_bytes);
  uint64_t next = run.first;
  while (next < run.end()) {
    InstallGate::Pass pass(gate_);
    PageRun missing = table.FindMissing({run.region, next, run.end() - next});
    if (missing.empty()) break;
    missing.count = std::min(missing.count, pass_pages);
    InstallResult result = memory_->Install(
        missing,
        bytes.subspan((missing.first - run.first) * page_bytes, missing.count * page_bytes));
    // A page that is present while still called missing: the demand lane has just put it in.
    uint64_t handled = result.pages + (result.outcome == InstallOutcome::kPresent ? 1 : 0);
    uint64_t installed =
        table.ChangeMissing({run.region, missing.first, handled}, PageState::kInstalled);
    counters_->pages_pushed.fetch_add(installed, std::memory_order_relaxed);
    if (result.outcome != InstallOutcome::kDone && result.outcome != InstallOutcome::kPresent) {
      return result;
    }
    next = missing.first + handled;
  }
  return InstallResult{};
}

// Who waits for one of the pages faults again, and is given zeros by its state.
void BulkReceiver::NoteZeros(PageRun run) {
  const uint64_t zeros = memory_->table().ChangeMissing(run, PageState::kAbsent);
  counters_->pages_pushed.fetch_add(zeros, std::memory_order_relaxed);
  if (zeros == 0) return;
  if (absl::Status woken = memory_->Wake(run); !woken.ok()) {
    listener_->OnTransferFailed(Annotate(woken, "wake who waits for pages of zeros"));
  }
}

// The VM does not run here, nor is it loaded: nobody looks at the pages meanwhile.
InstallResult BulkReceiver::PutInRound(PageRun run, std::span<const std::byte> bytes) {
  const PageTable& table = memory_->table();
  const uint64_t page_bytes = table.layout()[run.region].page_size_bytes;
  const uint64_t pass_pages = std::max<uint64_t>(1, kPassBytesMax / page_bytes);
  for (uint64_t next = run.first; next < run.end();) {
    InstallGate::Pass pass(gate_);
    const PageState state = table.Get({run.region, next});
    PageRun same{run.region, next, 1};
    const uint64_t end = std::min(run.end(), next + pass_pages);
    while (same.end() < end && table.Get({run.region, same.end()}) == state) ++same.count;
    InstallResult result;
    if (!bytes.empty()) {
      result = PutDataInRound(
          same, state,
          bytes.subspan((same.first - run.first) * page_bytes, same.count * page_bytes));
    } else if (absl::Status status = PutZerosInRound(same, state); !status.ok()) {
      listener_->OnTransferFailed(std::move(status));
    }
    if (result.outcome != InstallOutcome::kDone) return result;
    counters_->pages_precopied.fetch_add(same.count, std::memory_order_relaxed);
    next = same.end();
  }
  return InstallResult{};
}

absl::Status BulkReceiver::PutZerosInRound(PageRun run, PageState state) {
  if (state == PageState::kAbsent) return absl::OkStatus();
  if (state != PageState::kMissing) RETURN_IF_ERROR(memory_->MakeMissing(run));
  memory_->table().ChangeMissing(run, PageState::kAbsent);
  return absl::OkStatus();
}

InstallResult BulkReceiver::PutDataInRound(PageRun run, PageState state,
                                           std::span<const std::byte> bytes) {
  absl::Status status;
  if (state == PageState::kInstalled) {
    status = memory_->Overwrite(run, bytes);
  } else if (state != PageState::kMissing) {
    status = memory_->MakeMissing(run);
  }
  if (!status.ok()) listener_->OnTransferFailed(Annotate(status, "put a round's pages in"));
  if (!status.ok() || state == PageState::kInstalled) return {};
  const InstallResult result = memory_->Install(run, bytes);
  if (result.outcome == InstallOutcome::kPresent) {
    return {InstallOutcome::kFailed, result.pages, result.error_number};
  }
  memory_->table().ChangeMissing({run.region, run.first, result.pages}, PageState::kInstalled);
  return result;
}

void BulkReceiver::OnRoundMark(PageFrameKind mark, uint32_t round) {
  const bool begins = mark == PageFrameKind::kRoundBegin;
  const bool fits =
      begins ? rounds_allowed_ && round_ == 0 && round > last_round_ : round == round_;
  if (!fits) {
    Stop();
    listener_->OnLaneFailed(absl::InvalidArgumentError(
        fmt::format("bulk lane: field 'kind' {} round {} where it has no place",
                    begins ? "begins" : "ends", round)));
    return;
  }
  round_ = begins ? round : 0;
  if (begins) return;
  last_round_ = round;
  listener_->OnRoundReceived(round);
}

absl::Status BulkReceiver::EndRounds() {
  rounds_allowed_ = false;
  if (round_ == 0) return absl::OkStatus();
  const uint32_t open = round_;
  Stop();
  return absl::InvalidArgumentError(
      fmt::format("StillDirtyEnd: round {} has not ended on the bulk lane", open));
}

bool BulkReceiver::OnRun(PageRun run, std::span<const std::byte> bytes,
                         std::optional<uint64_t> digest) {
  if (integrity_ && digest != DigestOfRun(run, bytes)) {
    Stop();
    listener_->OnMismatch(run);
    return true;
  }
  InstallResult result;
  if (round_ != 0) {
    result = PutInRound(run, bytes);
  } else if (bytes.empty()) {
    NoteZeros(run);
  } else {
    result = InstallMissing(run, bytes);
  }
  if (result.outcome == InstallOutcome::kNoSpace) SetOutOfMemory(true);
  switch (result.outcome) {
    case InstallOutcome::kDone:
    case InstallOutcome::kPresent:
      SetOutOfMemory(false);
      if (round_ != 0) return true;
      counters_->push_front.Note(run);
      if (memory_->table().missing_pages() == 0) listener_->OnAllPresent();
      return true;
    case InstallOutcome::kRetry:
      ResumeAfter(kRetryDelayUs);
      return false;
    case InstallOutcome::kNoSpace:
      ResumeAfter(kNoSpaceDelayUs);
      return false;
    case InstallOutcome::kGone:
    case InstallOutcome::kFailed:
      break;
  }
  listener_->OnTransferFailed(InstallError(result, memory_->table().layout(), run));
  return true;
}

void BulkReceiver::SetOutOfMemory(bool out) {
  if (out == out_of_memory_) return;
  out_of_memory_ = out;
  listener_->OnOutOfMemory(out);
}

void BulkReceiver::ResumeAfter(int64_t delay_us) {
  resume_timer_ = executor_->RunAfter(delay_us, [this] {
    if (receiver_ != nullptr) receiver_->Resume();
  });
}

void BulkReceiver::OnPushFinished() {
  counters_->push_front.Clear();
  listener_->OnPushFinished();
}

void BulkReceiver::OnReceiverFailed(absl::Status status) {
  listener_->OnLaneFailed(Annotate(status, "bulk lane"));
}

}  // namespace faultline
