#include "engine/pre_copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace faultline {
namespace {

// Between two parts of a round a person's word is heard, and the policy may look: so much of the
// link's time is one.
constexpr double kPartSeconds = 0.2;
constexpr uint64_t kFirstPartBytes = 4 << 20;
constexpr uint64_t kPartBytesMin = 1 << 20;
constexpr uint64_t kPartBytesMax = 256 << 20;

}  // namespace

PreCopy::PreCopy(Parts parts, Options options, std::unique_ptr<DirtyTracker> tracker)
    : parts_(std::move(parts)),
      options_(options),
      layout_(parts_.memory->layout()),
      tracker_(std::move(tracker)),
      policy_(options_.mode, options_.budgets),
      history_(layout_),
      held_(layout_),
      to_send_(layout_),
      pending_(layout_),
      round_sent_(layout_) {
  result_.tracker = std::string(tracker_->mechanism());
  if (!options_.budgets.throttle || options_.mode != MigrationMode::kPreCopy) return;
  throttle_ = std::make_unique<VcpuThrottle>(
      parts_.vmm, parts_.control, [this](const absl::Status& status) {
        Finish(Annotate(status, "slow the VM for the rounds to get ahead of it"));
      });
}

void PreCopy::Start(PushLane* lane, Done done) {
  FAULTLINE_CHECK(step_ == Step::kIdle);
  step_ = Step::kArming;
  lane_ = lane;
  done_ = std::move(done);
  began_ns_ = parts_.control->NowNanos();
  auto arm = [this] { return Scan{.status = tracker_->Start()}; };
  RunOnStillVm(arm, [this](Scan armed) {
    if (!armed.status.ok()) return Finish(armed.status);
    scanned_ns_ = parts_.control->NowNanos();
    // The VM runs: what it allocates from now on is written, and the tracker's to tell.
    RunOnBulk([this] { return ReadAllocation(); },
              [this](Scan found) {
                if (!found.status.ok()) return Finish(found.status);
                began_ns_ = parts_.control->NowNanos();
                BeginRound(PageSet(layout_, *found.allocated));
              });
  });
}

void PreCopy::SwitchNow() { asked_to_switch_ = true; }

void PreCopy::Stop() {
  if (std::exchange(stopped_, true)) return;
  NoteThrottle();
  throttle_.reset();  // who rolls back lets the VM go on
  follow_timer_.reset();
  parts_.bulk->Post([this] { StopTracking(); });
}

void PreCopy::Finish(absl::Status status) {
  if (stopped_) return;
  if (Done done = std::exchange(done_, nullptr)) done(std::move(status));
}

// --- Rounds ---

void PreCopy::BeginRound(PageSet pages) {
  ++round_;
  ++rounds_begun_;
  round_began_ns_ = parts_.control->NowNanos();
  round_report_ = {};
  round_parts_ = 0;
  round_sent_.Clear();
  pending_.Subtract(pages);
  to_send_ = std::move(pages);
  PushNext(/*ends_early=*/false);
}

uint64_t PreCopy::PartBytes() const {
  const double seconds = static_cast<double>(parts_.control->NowNanos() - began_ns_) / 1e9;
  if (result_.bytes_sent == 0 || seconds <= 0) return kFirstPartBytes;
  const double bytes = static_cast<double>(result_.bytes_sent) / seconds * kPartSeconds;
  return std::clamp(static_cast<uint64_t>(std::min(bytes, 1e12)), kPartBytesMin, kPartBytesMax);
}

PageSet PreCopy::NextPart() {
  PageSet part(layout_);
  uint64_t bytes_left = PartBytes();
  for (RegionIndex region = 0; region < layout_.size() && bytes_left > 0; ++region) {
    const RegionLayout& shape = layout_[region];
    PageRun rest{region, 0, shape.page_count()};
    while (bytes_left > 0) {
      const uint64_t pages_max = std::max<uint64_t>(1, bytes_left / shape.page_size_bytes);
      const PageRun run = to_send_.FindFirst(rest, pages_max);
      if (run.empty()) break;
      part.Add(run);
      bytes_left -= std::min(bytes_left, run.count * shape.page_size_bytes);
      rest = {region, run.end(), shape.page_count() - run.end()};
    }
  }
  return part;
}

void PreCopy::PushNext(bool ends_early) {
  step_ = Step::kPushing;
  RoundPart part{.round = round_, .begins = round_parts_++ == 0, .pages = PageSet(layout_)};
  if (!ends_early) part.pages = NextPart();
  to_send_.Subtract(part.pages);
  held_.Unite(part.pages);
  round_sent_.Unite(part.pages);
  round_report_.pages += part.pages.page_count();
  round_report_.bytes += part.pages.byte_count();
  part.ends = ends_early || to_send_.empty();
  part_ends_round_ = part.ends;
  part_pushed_ = false;
  auto pushed = guard_.Wrap([this] { OnPartPushed(); });
  parts_.bulk->Post([this, part = std::move(part), pushed = std::move(pushed)]() mutable {
    parts_.pusher->PushPart(lane_, parts_.memory, std::move(part),
                            [this, pushed = std::move(pushed)] { parts_.control->Post(pushed); });
  });
}

void PreCopy::OnPartPushed() {
  if (stopped_) return;
  part_pushed_ = true;
  result_.pages_sent = pages_before_ + round_report_.pages;
  result_.bytes_sent = bytes_before_ + round_report_.bytes;
  if (part_ends_round_) {
    if (received_round_ == round_) OnRoundEnded();
    return;
  }
  const int64_t elapsed_us = (parts_.control->NowNanos() - began_ns_) / 1000;
  const bool time_is_up = elapsed_us >= options_.budgets.time_max_us;
  if (ScanIsDue() || asked_to_switch_ || time_is_up)
    return BeginScan([this] { Decide(/*ended=*/false); });
  PushNext(/*ends_early=*/false);
}

absl::Status PreCopy::OnRoundReceived(const RoundReceived& received) {
  const bool lists = step_ == Step::kListing || step_ == Step::kReady || step_ == Step::kSettling;
  const bool pushed = step_ == Step::kPushing && part_ends_round_;
  if ((!lists && !pushed) || received.round != received_round_ + 1 || received.round > round_) {
    return absl::InvalidArgumentError(
        fmt::format("RoundReceived.round is {}, which is no round under way", received.round));
  }
  received_round_ = received.round;
  if (lists) {
    OnListReceived();
  } else if (part_pushed_) {  // else its answer was faster than the lane's own word
    OnRoundEnded();
  }
  return absl::OkStatus();
}

void PreCopy::OnRoundEnded() {
  round_report_.elapsed_us =
      static_cast<uint64_t>(parts_.control->NowNanos() - round_began_ns_) / 1000;
  pages_before_ = result_.pages_sent;
  bytes_before_ = result_.bytes_sent;
  if (reason_.has_value()) {
    result_.rounds.push_back(round_report_);
    return Switch(*reason_);
  }
  BeginScan([this] {
    round_report_.pages_left = pending_.page_count();
    result_.rounds.push_back(round_report_);
    Decide(/*ended=*/true);
  });
}

RoundFacts PreCopy::Facts(bool ended) const {
  const int64_t now_ns = parts_.control->NowNanos();
  PageSet again = round_sent_;
  again.Intersect(pending_);
  return {.round = static_cast<uint32_t>(result_.rounds.size()),
          .ended = ended,
          .elapsed_us = (now_ns - began_ns_) / 1000,
          .sent_bytes = round_report_.bytes,
          .sent_us = ended ? static_cast<int64_t>(round_report_.elapsed_us)
                           : (now_ns - round_began_ns_) / 1000,
          .again_bytes = again.byte_count(),
          .left_bytes = WorthSending().byte_count(),
          .missing_bytes = pending_.byte_count(),
          .can_slow = throttle_ != nullptr && !throttle_->at_most()};
}

void PreCopy::Decide(bool ended) {
  std::optional<SwitchReason> reason =
      asked_to_switch_ ? SwitchReason::kAsked : policy_.Decide(Facts(ended));
  if (ended) {
    if (reason.has_value()) return Switch(*reason);
    if (policy_.wants_slower()) Tighten();
    return BeginRound(WorthSending());
  }
  reason_ = reason;
  PushNext(/*ends_early=*/reason.has_value());
}

// Pages that are written all the time are old again before they are needed.
PageSet PreCopy::WorthSending() const {
  PageSet pages = pending_;
  if (options_.mode == MigrationMode::kHybrid) pages.Subtract(history_.Hot());
  if (allocated_.has_value()) pages.Intersect(PageSet(layout_, *allocated_));
  return pages;
}

}  // namespace faultline
