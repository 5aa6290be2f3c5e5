#include "cli/report_text.h"

#include <fmt/format.h>

#include "base/text.h"
#include "cli/run_directory.h"

namespace faultline {
namespace {

constexpr uint64_t kWindowUs = 2'000'000;

// Before the handover no page is on the destination in a sense that means something.
bool KnowsShare(const ProgressSnapshot& snapshot) {
  return snapshot.pages_total > 0 && snapshot.post_copy_us > 0;
}

}  // namespace

std::string FormatDuration(uint64_t duration_us) {
  double us = static_cast<double>(duration_us);
  if (duration_us < 1000) return fmt::format("{} us", duration_us);
  if (duration_us < 1'000'000) return fmt::format("{:.1f} ms", us / 1e3);
  if (duration_us < 100'000'000) return fmt::format("{:.2f} s", us / 1e6);
  uint64_t seconds = duration_us / 1'000'000;
  return fmt::format("{} min {:02} s", seconds / 60, seconds % 60);
}

std::string FormatCount(uint64_t count) {
  std::string digits = fmt::format("{}", count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

void ProgressEstimator::Add(const ProgressSnapshot& snapshot) {
  // The handover begins a new kind of traffic: old figures say nothing about it.
  if (!window_.empty() && window_.back().phase != snapshot.phase) window_.clear();
  window_.push_back(snapshot);
  while (window_.size() > 2 && snapshot.elapsed_us - window_[1].elapsed_us >= kWindowUs) {
    window_.pop_front();
  }
}

std::optional<uint64_t> ProgressEstimator::bytes_per_second() const {
  if (window_.size() < 2) return std::nullopt;
  const ProgressSnapshot& first = window_.front();
  const ProgressSnapshot& last = window_.back();
  if (last.elapsed_us <= first.elapsed_us || last.bytes_wire < first.bytes_wire) {
    return std::nullopt;
  }
  double bytes = static_cast<double>(last.bytes_wire - first.bytes_wire);
  return static_cast<uint64_t>(bytes * 1e6 /
                               static_cast<double>(last.elapsed_us - first.elapsed_us));
}

std::optional<uint64_t> ProgressEstimator::remaining_us() const {
  if (window_.size() < 2 || window_.back().phase != Phase::kPostCopy) return std::nullopt;
  const ProgressSnapshot& first = window_.front();
  const ProgressSnapshot& last = window_.back();
  if (last.elapsed_us <= first.elapsed_us || last.pages_missing >= first.pages_missing) {
    return std::nullopt;
  }
  double pages = static_cast<double>(first.pages_missing - last.pages_missing);
  double time_us = static_cast<double>(last.elapsed_us - first.elapsed_us);
  return static_cast<uint64_t>(static_cast<double>(last.pages_missing) * time_us / pages);
}

std::string ProgressLine(const ProgressSnapshot& snapshot, const ProgressEstimator& estimator) {
  std::string line = PhaseName(snapshot.phase);
  if (KnowsShare(snapshot)) {
    double present = static_cast<double>(snapshot.pages_total - snapshot.pages_missing);
    line += fmt::format("  {:.1f}% present",
                        100.0 * present / static_cast<double>(snapshot.pages_total));
  }
  if (std::optional<uint64_t> rate = estimator.bytes_per_second()) {
    line += fmt::format("  {}/s", FormatBytes(*rate));
  }
  if (snapshot.faults > 0) line += fmt::format("  {} faults", FormatCount(snapshot.faults));
  if (std::optional<uint64_t> left_us = estimator.remaining_us()) {
    line += fmt::format("  ETA {}", FormatDuration(*left_us));
  } else {
    line += fmt::format("  {}", FormatDuration(snapshot.elapsed_us));
  }
  return line;
}

std::string PhaseSentence(Phase phase) {
  switch (phase) {
    case Phase::kConnecting:
      return "connecting";
    case Phase::kPreparing:
      return "preparing (the VM runs on the source)";
    case Phase::kPreCopy:
      return "pre-copy (the VM runs on the source, its memory is being sent)";
    case Phase::kFreezing:
      return "freezing (the VM is being stopped)";
    case Phase::kHandingOver:
      return "handing over (the VM stands still while its devices travel)";
    case Phase::kPostCopy:
      return "post-copy (the VM runs on the destination, its memory follows)";
    case Phase::kCompleted:
      return "completed";
    case Phase::kFailed:
      return "failed";
    case Phase::kReconnecting:
      return "reconnecting (the VM runs until it needs a page that has not arrived)";
  }
  return "?";
}

std::string Summary(const Outcome& outcome) {
  const SessionResult& result = outcome.result;
  const ProgressSnapshot& last = result.last;
  std::string text = fmt::format(
      "Migration {} completed: the VM runs on the destination, all its memory is there.\n"
      "  downtime {}, {} from the handover to the last page, {} since the command began\n"
      "  {} pages: {} on demand, {} pushed, {} never allocated, {} discarded by the guest\n"
      "  {} on the wire for {} of memory",
      result.migration_id, FormatDuration(result.downtime_us), FormatDuration(result.total_us),
      FormatDuration(outcome.elapsed_us), FormatCount(last.pages_total),
      FormatCount(last.pages_demand), FormatCount(last.pages_pushed),
      FormatCount(last.pages_absent), FormatCount(last.pages_discarded),
      FormatBytes(last.bytes_wire), FormatBytes(last.bytes_total));
  if (const std::optional<PreCopyResult>& ahead = result.pre_copy;
      ahead && !ahead->rounds.empty()) {
    text += fmt::format(
        "\n  before the switch ({}): {} rounds, {} sent in {}, {} pages of it written again",
        SwitchReasonName(ahead->switch_reason.value_or(SwitchReason::kPeer)), ahead->rounds.size(),
        FormatBytes(ahead->bytes_sent), FormatDuration(ahead->elapsed_us),
        FormatCount(ahead->pages_old));
    if (ahead->pauses > 0) {
      text += fmt::format("; stood still {} times for it, {} at most", ahead->pauses,
                          FormatDuration(ahead->pause_us_max));
    }
    if (ahead->throttle_percent > 0) {
      text += fmt::format("; slowed by up to {}%, {} in all", ahead->throttle_percent,
                          FormatDuration(ahead->throttled_us));
    }
  }
  if (last.bytes_packed_in > 0) {
    text += fmt::format("\n  {} of it packed into {}", FormatBytes(last.bytes_packed_in),
                        FormatBytes(last.bytes_packed_out));
  }
  for (const RailFigures& rail : result.rails) {
    if (result.rails.size() == 1 && rail.bytes_written == 0) break;  // which says nothing new
    text += fmt::format("\n  {} of it pushed by RDMA on {}", FormatBytes(rail.bytes), rail.address);
    if (rail.bytes_written > 0) {
      text += fmt::format(", {} of that by WRITEs", FormatBytes(rail.bytes_written));
    }
  }
  if (last.mismatches > 0) {
    text += fmt::format(
        "\n  {} changed on their way, were found out and asked for again: look for errors in the "
        "memory of both hosts and of the network between them",
        last.mismatches == 1 ? "once pages" : fmt::format("{} times pages", last.mismatches));
  }
  if (last.reconnects > 0) {
    text += fmt::format("\n  the connection was lost and made again {}",
                        last.reconnects == 1 ? "once" : fmt::format("{} times", last.reconnects));
  }
  const HistogramSummary& latency = result.fault_latency_us;
  if (outcome.role == Role::kDestination && latency.count > 0) {
    text += fmt::format("\n  {} faults served: half within {}, 99% within {}, the slowest {}",
                        FormatCount(latency.count), FormatDuration(latency.p50),
                        FormatDuration(latency.p99), FormatDuration(latency.max));
  }
  if (const std::optional<HugePagesResult>& huge = result.huge_pages) {
    text += fmt::format("\n  {} of it became huge pages again in {}{}", FormatBytes(huge->bytes),
                        FormatDuration(huge->elapsed_us), huge->cut_short ? ", cut short" : "");
  }
  return text;
}

std::string FailureText(const Outcome& outcome) {
  const SessionResult& result = outcome.result;
  std::string text = fmt::format("the migration failed: {}\n", MessageOf(result.status));
  switch (result.owner) {
    case VmOwner::kSource:
      return text + (outcome.role == Role::kSource
                         ? "The VM is the source's (this host): it is as it was before."
                         : "The VM is the source's; nothing of it is left on this host.");
    case VmOwner::kDestination:
      return text +
             (outcome.role == Role::kSource
                  ? "The VM is the destination's: look there. Keep the QEMU here paused: it "
                    "holds the memory that has not arrived, and must never run again. 'faultline "
                    "migrate --resume' goes on."
                  : "The VM is the destination's (this host). Keep its QEMU: it waits for "
                    "the memory that has not arrived. Keep the source's QEMU paused. 'faultline "
                    "receive --resume' goes on.");
    case VmOwner::kUndecided:
      return text +
             "This host holds the VM, loaded and paused, and does not know whether the source gave "
             "it up: what the source's 'faultline migrate' reports decides "
             "(docs/operators-guide.md, "
             "\"An undecided destination\"). Do nothing to either QEMU before you know.";
  }
  return text;
}

}  // namespace faultline
