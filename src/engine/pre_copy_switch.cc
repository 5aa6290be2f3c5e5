// The end of pre-copy: what is old at the destination is named to it, most of it before the VM is
// brought to a stop, some of it meanwhile, the rest once it stands still.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "engine/dirty_list.h"
#include "engine/pre_copy.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

// What the VM wrote while the list before was carried out is named before the switch begins, too,
// if it is more than is named at one time while the VM is brought to a stop.
constexpr int kListsMax = 3;
constexpr uint64_t kPagesInOneGo = 256;
// While the VM is brought to a stop: from a list that was carried out to the next look. Where the
// stop takes long it is a share of the time since it began; looks take a share of the processor.
constexpr int64_t kFollowEveryUs = 1'000;
constexpr int64_t kFollowShare = 8;
constexpr int64_t kLookShare = 4;
// Where looks take longer nobody follows. One that protects again what it finds takes several times
// as long. The last look waits for as many pages of one that is under way.
constexpr int64_t kFollowUsMax = 2'000;
constexpr int64_t kProtectUsMax = 8'000;
constexpr uint64_t kFollowPagesAtOnce = 16 << 10;

}  // namespace

void PreCopy::Switch(SwitchReason reason) {
  result_.switch_reason = reason;
  pending_.Unite(to_send_);
  to_send_.Clear();
  const bool falls_over = options_.mode == MigrationMode::kPreCopy &&
                          reason != SwitchReason::kConverged && reason != SwitchReason::kAsked;
  if (falls_over) {
    parts_.notice(fmt::format(
        "pre-copy ends without having converged ({}): the VM writes {} a second, and {} are left "
        "after {} rounds; they follow by post-copy",
        SwitchReasonName(reason), FormatBytes(result_.dirty_bytes_per_second),
        FormatBytes(pending_.byte_count()), result_.rounds.size()));
  }
  result_.elapsed_us = static_cast<uint64_t>(parts_.control->NowNanos() - began_ns_) / 1000;
  if (OldAtDestination().empty()) return BeReady();
  step_ = Step::kListing;
  SendList();
}

PageSet PreCopy::OldAtDestination() const {
  PageSet pages = pending_;
  pages.Intersect(held_);
  return pages;
}

void PreCopy::SendList() {
  const PageSet old = OldAtDestination();
  held_.Subtract(old);
  const uint64_t pages = old.page_count();
  result_.pages_old += pages;
  if (step_ == Step::kSettling) result_.pages_old_in_downtime = pages;
  ++round_;
  ++lists_;
  TellDirtyPages(old, round_, options_.integrity, kRangesPerMessageMax, parts_.send);
}

void PreCopy::OnListReceived() {
  if (stopped_) return;
  if (step_ == Step::kReady) return FollowLater();
  if (step_ == Step::kSettling) {
    if (!last_list_sent_ || received_round_ != round_) return;
    step_ = Step::kSettled;
    result_.settle_us = static_cast<uint64_t>(parts_.control->NowNanos() - settle_began_ns_) / 1000;
    return;
  }
  if (tracker_->needs_paused_vm() || lists_ == kListsMax) return BeReady();
  BeginScan([this] {
    if (OldAtDestination().page_count() <= kPagesInOneGo) return BeReady();
    step_ = Step::kListing;
    SendList();
  });
}

void PreCopy::BeReady() {
  Unthrottled([this] {
    step_ = Step::kReady;
    ready_ns_ = parts_.control->NowNanos();
    Finish(absl::OkStatus());
    if (!tracker_->needs_paused_vm() && last_look_us_ <= kProtectUsMax) Follow();
  });
}

// Whoever asked for the switch brings the VM to a stop now. That takes milliseconds in which it
// still writes, and taking a page out costs the destination microseconds: better now than later. A
// page that was named is old whatever is written to it, so that nothing need be protected again.
void PreCopy::Follow() {
  if (stopped_ || step_ != Step::kReady) return;
  RunOnBulk([this] { return LookUntilSettling(); },
            [this](Scan scan) {
              follow_status_ = scan.status;
              last_look_us_ = scan.elapsed_us;
              if (!scan.status.ok()) return;  // told by Settle
              pending_.Unite(scan.written);
              if (step_ != Step::kReady) return;
              if (OldAtDestination().empty()) return FollowLater();
              SendList();
            });
}

// The last look sees all that this one leaves out.
PreCopy::Scan PreCopy::LookUntilSettling() {
  Scan scan;
  scan.written = PageSet(layout_);
  for (RegionIndex region = 0; region < layout_.size(); ++region) {
    const uint64_t pages = layout_[region].page_count();
    for (uint64_t first = 0; first < pages; first += kFollowPagesAtOnce) {
      if (settling_ || !scan.status.ok()) return scan;
      const PageRun run{region, first, std::min(kFollowPagesAtOnce, pages - first)};
      scan.status = tracker_->Scan(std::span(&run, 1), AfterScan::kAsItIs, &scan.written);
    }
  }
  return scan;
}

void PreCopy::FollowLater() {
  if (last_look_us_ > kFollowUsMax) return;
  const int64_t since_us = (parts_.control->NowNanos() - ready_ns_) / 1000;
  follow_timer_ = parts_.control->RunAfter(
      std::max({kFollowEveryUs, since_us / kFollowShare, kLookShare * last_look_us_}),
      [this] { Follow(); });
}

void PreCopy::Settle(Done done) {
  FAULTLINE_CHECK(!stopped_ && done_ == nullptr && step_ == Step::kReady);
  step_ = Step::kSettling;
  settling_ = true;
  settle_began_ns_ = parts_.control->NowNanos();
  follow_timer_.reset();
  done_ = std::move(done);
  auto look = [this] {
    Scan scan = ScanAll(AfterScan::kAsItIs);
    if (!scan.status.ok() || !options_.guest_may_discard) return scan;
    Scan found = ReadAllocation();
    scan.status = found.status;
    scan.allocated = std::move(found.allocated);
    return scan;
  };
  RunOnBulk(look, [this](Scan scan) {
    if (scan.status.ok()) scan.status = follow_status_;
    if (!scan.status.ok()) return Finish(scan.status);
    pending_.Unite(scan.written);
    if (scan.allocated.has_value()) TakeInAllocation(*scan.allocated);
    last_list_sent_ = true;
    SendList();
    TakeIn(std::move(scan));  // for the history: the destination does not wait for it
    Finish(absl::OkStatus());
  });
}

}  // namespace faultline
