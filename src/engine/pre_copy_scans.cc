// What pre-copy asks the tracker, and what it makes of the answer.
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/pre_copy.h"

namespace faultline {
namespace {

// In the middle of a round; with pauses it costs the VM more.
constexpr int64_t kScanEveryNs = 500'000'000;
constexpr int64_t kScanWithPauseEveryNs = 2'000'000'000;

void Count(uint64_t elapsed_us, uint64_t* times, uint64_t* sum_us, uint64_t* max_us) {
  ++*times;
  *sum_us += elapsed_us;
  *max_us = std::max(*max_us, elapsed_us);
}

}  // namespace

void PreCopy::RunOnBulk(std::function<Scan()> work, std::function<void(Scan)> then) {
  auto done = guard_.Wrap([this, then = std::move(then)](Scan found) {
    if (!stopped_) then(std::move(found));
  });
  parts_.bulk->Post([this, work = std::move(work), done = std::move(done)]() mutable {
    const int64_t began_ns = parts_.bulk->NowNanos();
    Scan found = work();
    found.elapsed_us = (parts_.bulk->NowNanos() - began_ns) / 1000;
    parts_.control->Post(
        [done = std::move(done), found = std::move(found)]() mutable { done(std::move(found)); });
  });
}

// The VM goes on whatever was found: its state is nothing that can be wrong.
void PreCopy::RunOnStillVm(std::function<Scan()> work, std::function<void(Scan)> then) {
  if (!tracker_->needs_paused_vm()) return RunOnBulk(std::move(work), std::move(then));
  Unthrottled([this, work = std::move(work), then = std::move(then)] { RunInPause(work, then); });
}

void PreCopy::RunInPause(const std::function<Scan()>& work, const std::function<void(Scan)>& then) {
  const int64_t began_ns = parts_.control->NowNanos();
  auto go_on = [this, began_ns, then](Scan found) {
    parts_.vmm->SetPaused(false, guard_.Wrap([this, began_ns, then, found](absl::Status status) {
      if (stopped_) return;
      Count(static_cast<uint64_t>(parts_.control->NowNanos() - began_ns) / 1000, &result_.pauses,
            &result_.pause_us, &result_.pause_us_max);
      Scan judged = found;
      if (judged.status.ok()) judged.status = Annotate(status, "let the VM go on after a scan");
      if (judged.status.ok() && throttle_ != nullptr) throttle_->GoOn();
      then(std::move(judged));
    }));
  };
  parts_.vmm->SetPaused(true, guard_.Wrap([this, work, then, go_on](absl::Status status) {
    if (stopped_) return;
    if (!status.ok()) {
      return then(Scan{.status = Annotate(status, "pause the VM for a scan")});
    }
    RunOnBulk(work, go_on);
  }));
}

void PreCopy::Unthrottled(std::function<void()> then) {
  if (throttle_ == nullptr) return then();
  throttle_->Stop(guard_.Wrap([this, then = std::move(then)](const absl::Status& status) {
    if (stopped_) return;
    NoteThrottle();
    if (!status.ok()) return Finish(Annotate(status, "let the VM run unslowed"));
    then();
  }));
}

void PreCopy::Tighten() {
  throttle_->Tighten();
  NoteThrottle();
  parts_.notice(fmt::format(
      "what is left does not shrink: from here on the VM stands still for {}% of the time",
      ThrottlePercent()));
}

void PreCopy::NoteThrottle() {
  if (throttle_ == nullptr) return;
  result_.throttle_percent = ThrottlePercent();
  result_.throttled_us = static_cast<uint64_t>(throttle_->paused_us());
}

uint64_t PreCopy::ThrottlePercent() const {
  return static_cast<uint64_t>(throttle_->share() * 100 + 0.5);
}

PreCopy::Scan PreCopy::ScanAll(AfterScan after) {
  std::vector<PageRun> all;
  for (RegionIndex region = 0; region < layout_.size(); ++region) {
    all.push_back({region, 0, layout_[region].page_count()});
  }
  Scan scan;
  scan.written = PageSet(layout_);
  scan.status = tracker_->Scan(all, after, &scan.written);
  return scan;
}

PreCopy::Scan PreCopy::ReadAllocation() {
  Scan found;
  absl::StatusOr<AllocationMap> allocated = parts_.memory->ReadAllocationMap();
  found.status = allocated.status();
  if (allocated.ok()) found.allocated = std::move(allocated).value();
  return found;
}

void PreCopy::BeginScan(std::function<void()> then) {
  step_ = Step::kScanning;
  RunOnStillVm([this] { return ScanAll(AfterScan::kClean); },
               [this, then = std::move(then)](Scan scan) {
                 if (!TakeIn(std::move(scan))) return;
                 if (!options_.guest_may_discard) return then();
                 RunOnBulk([this] { return ReadAllocation(); },
                           [this, then](Scan found) {
                             if (!found.status.ok()) return Finish(found.status);
                             TakeInAllocation(*found.allocated);
                             then();
                           });
               });
}

bool PreCopy::TakeIn(Scan scan) {
  if (!scan.status.ok()) {
    Finish(std::move(scan.status));
    return false;
  }
  last_look_us_ = scan.elapsed_us;
  Count(static_cast<uint64_t>(scan.elapsed_us), &result_.scans, &result_.scan_us,
        &result_.scan_us_max);
  const int64_t now_ns = parts_.control->NowNanos();
  const double seconds = static_cast<double>(now_ns - scanned_ns_) / 1e9;
  if (seconds > 0) {
    result_.dirty_bytes_per_second =
        static_cast<uint64_t>(static_cast<double>(scan.written.byte_count()) / seconds);
  }
  scanned_ns_ = now_ns;
  history_.NoteScan(scan.written);
  // What is to be sent still is read after this.
  scan.written.Subtract(to_send_);
  pending_.Unite(scan.written);
  if (options_.mode != MigrationMode::kHybrid || to_send_.empty()) return true;
  PageSet hot = history_.Hot();
  hot.Intersect(to_send_);
  to_send_.Subtract(hot);
  pending_.Unite(hot);
  return true;
}

// Pages that the guest gave up are holes: old where they were sent, and not to be sent any more.
void PreCopy::TakeInAllocation(const AllocationMap& allocated) {
  const PageSet data(layout_, allocated);
  PageSet gone = held_;
  gone.Unite(to_send_);
  gone.Subtract(data);
  to_send_.Subtract(gone);
  pending_.Unite(gone);
  allocated_ = allocated;
}

bool PreCopy::ScanIsDue() const {
  if (options_.mode != MigrationMode::kHybrid) return false;
  const int64_t every_ns = tracker_->needs_paused_vm() ? kScanWithPauseEveryNs : kScanEveryNs;
  return parts_.control->NowNanos() - scanned_ns_ >= every_ns;
}

}  // namespace faultline
