// The source's session from the handover to the last page.
#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "engine/durable_record.h"
#include "engine/source_session.h"
#include "pages/page_digest.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

// What was sent before the switch, and is not old, is not pushed.
void LeaveOutHeld(const PageSet& held, AllocationMap* map) {
  held.ForEach([map](PageRun run) { (*map)[run.region].Remove(run.first, run.end()); });
}

}  // namespace

// Messages that come after Commit; false if this one has no place.
bool SourceSession::HandlePostCopy(const Message& message) {
  if (step_ == Step::kResuming && HandleResuming(message)) return true;
  const bool resumes = step_ == Step::kResuming && resuming_.welcomed;
  // A destination that was started again says it again, maybe only once the lanes are back.
  const bool said_again = step_ == Step::kRunning && reconnects_ != 0;
  if (auto* running = std::get_if<Running>(&message);
      running && (step_ == Step::kCommitted || resumes || said_again)) {
    OnRunning(*running);
    return true;
  }
  if (auto* mismatch = std::get_if<Mismatch>(&message);
      mismatch && (step_ == Step::kCommitted || step_ == Step::kRunning || resumes)) {
    OnMismatch(*mismatch);
    return true;
  }
  if (!destination_runs_ || (step_ != Step::kRunning && !resumes)) return false;
  if (auto* progress = std::get_if<Progress>(&message)) {
    OnProgressMessage(*progress);
    return true;
  }
  if (auto* completed = std::get_if<Completed>(&message)) {
    OnCompleted(*completed);
    return true;
  }
  return false;
}

void SourceSession::OnRunning(const Running& running) {
  destination_awaits_word_ = false;
  if (step_ == Step::kCommitted) {
    step_ = Step::kRunning;
    EnterPhase(Phase::kPostCopy);
  }
  if (std::exchange(destination_runs_, true)) return;  // said again on a new connection
  result_.downtime_us = running.downtime_us;
  PushIfReady();
  MakeDurableBeside(parts_.bulk, parts_.control, parts_.journal, parts_.observer);
}

void SourceSession::OnProgressMessage(const Progress& progress) {
  peer_progress_ = progress;
  peer_reports_ = true;
  // Often enough: each moment later more of what is sent may be wrong.
  absl::Status stands = parts_.vmm->StandsStill();
  if (!stands.ok()) Fail(stands, PeerErrorCode::kVmm);
}

// The destination gives its lanes up for it: this is why.
void SourceSession::OnMismatch(const Mismatch& mismatch) {
  const PageRun run = mismatch.run;
  const bool inside = run.region < layout_.size() && !run.empty() &&
                      run.first < layout_[run.region].page_count() &&
                      run.count <= layout_[run.region].page_count() - run.first;
  if (!result_.integrity || !inside) {
    return Fail(absl::InvalidArgumentError(
                    fmt::format("{} sent a Mismatch that is about no page of this VM's", peer())),
                PeerErrorCode::kBadMessage);
  }
  const absl::Status status = mismatches_.Note(layout_, run);
  if (lane_failure_.ok()) return OnLaneFailed(status);
  lane_failure_ = status;
}

void SourceSession::OnCompleted(const Completed& completed) {
  peer_progress_ = {.pages_missing = 0,
                    .pages_demand = completed.pages_demand,
                    .pages_pushed = completed.pages_pushed};
  peer_reports_ = true;
  result_.total_us = completed.total_us;
  if (absl::Status stands = parts_.vmm->StandsStill(); !stands.ok()) {
    parts_.observer->OnNotice(MessageOf(stands) + ". What was sent last may be newer than the VM");
  }
  // Before the destination hears that it is known: it is not there to say it again afterwards.
  RecordCompleted();
  channel_->Send(Goodbye{});
  step_ = Step::kRetiring;
  watch_.reset();
  recovery_timer_.reset();
  parts_.vmm->Retire(options_.quit_source, guard_.Wrap([this](absl::Status retired) {
    if (step_ != Step::kRetiring) return;
    if (!retired.ok()) parts_.observer->OnNotice(MessageOf(retired));
    End();
  }));
}

void SourceSession::RecordCompleted() {
  absl::Status status = parts_.journal->Record(JournalPhase::kCompleted);
  if (!status.ok()) parts_.observer->OnNotice(MessageOf(status));
}

// Milliseconds for each GiB, so not before the VM runs again: what is asked for before the map is
// there is looked up page by page.
void SourceSession::ReadAllocationMap() {
  parts_.bulk->Post([this] {
    absl::StatusOr<AllocationMap> map = memory_->ReadAllocationMap();
    parts_.control->Post([this, map = std::move(map)]() mutable { OnMapRead(std::move(map)); });
  });
}

void SourceSession::OnMapRead(absl::StatusOr<AllocationMap> map) {
  if (step_ >= Step::kRetiring) return;
  if (map.ok()) {
    map_ = std::move(map).value();
  } else {
    // The VM is gone already and must get its memory: every page is sent, holes too.
    parts_.observer->OnNotice(MessageOf(map.status()));
    for (const RegionLayout& region : layout_) map_.emplace_back().Add(0, region.page_count());
  }
  FAULTLINE_CHECK(map_.size() == layout_.size());
  PushIfReady();
}

// The pusher begins once the VM runs, the lanes are there, and both sides know what there is to
// push.
void SourceSession::PushIfReady() {
  if (step_ != Step::kRunning || pushing_) return;
  if (!destination_has_map_) {
    if (map_.empty()) {
      if (!std::exchange(map_asked_, true)) ReadAllocationMap();
      return;
    }
    SendAllocationMap();
    destination_has_map_ = true;
  }
  if (missing_ == nullptr) {
    push_map_ = map_;
    if (pre_copy_ != nullptr) LeaveOutHeld(pre_copy_->held(), &push_map_);
  } else {
    // A source that was started again pushes without reading the map: no missing page is a hole.
    push_map_ = map_.empty() ? missing_->all() : missing_->In(map_);
  }
  pushing_ = true;
  const WriteHistory* history = pre_copy_ != nullptr ? &pre_copy_->history() : nullptr;
  parts_.bulk->Post([this, lane = lanes_.push, history] {
    pusher_.Start(lane, memory_.get(), &push_map_, history);
  });
}

void SourceSession::SendAllocationMap() {
  uint64_t data_pages = 0;
  uint64_t digest = 0;
  for (RegionIndex region = 0; region < map_.size(); ++region) {
    data_pages += map_[region].page_count();
    map_[region].ForEach([&](PageRange range) { digest = DigestWithRange(digest, region, range); });
    AllocatedRanges message{.region = region, .ranges = {}};
    map_[region].ForEach([&](PageRange range) {
      message.ranges.push_back(range);
      if (message.ranges.size() == kRangesPerMessageMax) {
        channel_->Send(message);
        message.ranges.clear();
      }
    });
    if (!message.ranges.empty()) channel_->Send(message);
  }
  AllocationMapEnd end{.data_pages = data_pages, .digest = {}};
  if (result_.integrity) end.digest = digest;
  channel_->Send(end);
}

void SourceSession::OnDemand(PageId page) { pusher_.OnDemand(page); }

void SourceSession::OnExporterFailed(absl::Status status) {
  parts_.control->Post([this, status] { OnLaneFailed(Annotate(status, "demand lane")); });
}

void SourceSession::OnLaneFailed(const absl::Status& status) {
  if (!lanes_up_ || !lane_failure_.ok() || step_ >= Step::kRetiring) return;
  lane_failure_ = status;
  lane_timer_ = parts_.control->RunAfter(options_.limits.lane_failure_grace_us, [this] {
    if (committed()) return LoseLink(lane_failure_);
    Fail(lane_failure_, PeerErrorCode::kInternal);
  });
}

}  // namespace faultline
