// Listeners for both ends of a bulk lane.
#ifndef FAULTLINE_TESTS_CONTRACT_BULK_LANE_FIXTURE_H_
#define FAULTLINE_TESTS_CONTRACT_BULK_LANE_FIXTURE_H_

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "contract/transport_world.h"

namespace faultline::contract {

// Pushes a list of runs as fast as the lane takes them, then finishes.
class Pusher : public PushLane::Listener, public FailureNotes {
 public:
  using Mark = std::pair<PageFrameKind, uint32_t>;
  explicit Pusher(std::vector<PageRun> runs) : runs_(std::move(runs)) {}
  // Before the start; in the order of the runs.
  void MarkBefore(size_t run, Mark mark) { marks_.emplace_back(run, mark); }
  void Start(PushLane* lane, const SourceMemory* memory) {
    lane_ = lane;
    lane_->Start(memory, this);
    OnLaneWritable();
  }
  void OnLaneWritable() override {
    std::lock_guard lock(mutex_);
    while (next_ < runs_.size() || next_mark_ < marks_.size()) {
      if (next_mark_ < marks_.size() && marks_[next_mark_].first == next_) {
        const Mark mark = marks_[next_mark_].second;
        if (!lane_->TryMark(mark.first, mark.second)) return;
        ++next_mark_;
        continue;
      }
      if (!lane_->TryPush(runs_[next_])) return;
      ++next_;
    }
    if (!finished_) lane_->Finish();
    finished_ = true;
  }
  void OnLaneFailed(absl::Status status) override { Note(std::move(status)); }
  size_t pushed() const {
    std::lock_guard lock(mutex_);
    return next_;
  }

 private:
  const std::vector<PageRun> runs_;
  PushLane* lane_ = nullptr;
  mutable std::mutex mutex_;
  size_t next_ = 0;
  std::vector<std::pair<size_t, Mark>> marks_;
  size_t next_mark_ = 0;
  bool finished_ = false;
};

// Takes runs, or refuses them from some number on.
class RunNotes : public PushReceiver::Listener, public FailureNotes {
 public:
  explicit RunNotes(const TestMemory* memory) : memory_(memory) {}
  bool OnRun(PageRun run, std::span<const std::byte> bytes,
             std::optional<uint64_t> digest) override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(finished_);
    ++offers_;
    if (hold_from_.has_value() && runs_.size() >= *hold_from_) return false;
    if (digest.has_value()) ++digests_;
    if (digest.has_value() && *digest != DigestOfRun(run, bytes)) {
      misfits_.push_back(run);
      return true;
    }
    EXPECT_TRUE(memory_->Matches(run, bytes)) << "run from page " << run.first << " is wrong";
    runs_.push_back(run);
    return true;
  }
  // Which, and how many runs came before it.
  using Mark = std::tuple<PageFrameKind, uint32_t, size_t>;
  void OnRoundMark(PageFrameKind mark, uint32_t round) override {
    std::lock_guard lock(mutex_);
    marks_.emplace_back(mark, round, runs_.size());
  }
  std::vector<Mark> marks() const {
    std::lock_guard lock(mutex_);
    return marks_;
  }
  void OnPushFinished() override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(finished_) << "finished twice";
    finished_ = true;
  }
  void OnReceiverFailed(absl::Status status) override { Note(std::move(status)); }

  // After `runs` runs, all are refused.
  void HoldFrom(std::optional<size_t> runs) {
    std::lock_guard lock(mutex_);
    hold_from_ = runs;
  }
  std::vector<PageRun> runs() const {
    std::lock_guard lock(mutex_);
    return runs_;
  }
  // Those whose check sum is not that of what came, which are not among runs().
  std::vector<PageRun> misfits() const {
    std::lock_guard lock(mutex_);
    return misfits_;
  }
  size_t digests() const {
    std::lock_guard lock(mutex_);
    return digests_;
  }
  size_t offers() const {
    std::lock_guard lock(mutex_);
    return offers_;
  }
  bool finished() const {
    std::lock_guard lock(mutex_);
    return finished_;
  }

 private:
  const TestMemory* memory_;
  mutable std::mutex mutex_;
  std::optional<size_t> hold_from_;
  std::vector<Mark> marks_;
  std::vector<PageRun> runs_;
  std::vector<PageRun> misfits_;
  size_t digests_ = 0;
  size_t offers_ = 0;
  bool finished_ = false;
};

class BulkLaneFixture : public TransportContract {
 protected:
  // Runs of all lengths that a lane takes, huge pages among them, in no order.
  static std::vector<PageRun> ManyRuns(uint64_t run_pages_max) {
    std::vector<PageRun> runs;
    for (uint64_t round = 0; round < 3; ++round) {
      runs.push_back({1, 2 * (round % 2), 1});
      for (uint64_t i = 0; i < 60; ++i) {
        runs.push_back({0, 1500 + (i * 613) % 2000, 1 + (i * 7) % run_pages_max});
      }
    }
    return runs;
  }

  // In an order of its own where the world keeps none.
  std::vector<PageRun> AsCompared(std::vector<PageRun> runs) const {
    if (world_->keeps_order()) return runs;
    std::ranges::sort(
        runs, {}, [](const PageRun& run) { return std::tuple(run.region, run.first, run.count); });
    return runs;
  }

  void StartReceiver() {
    world_->RunOn(Place::kBulk, [&] { receiver_->Start(&notes_); });
  }

  void MakePusher(std::vector<PageRun> runs) {
    pusher_ = std::make_unique<Pusher>(std::move(runs));
  }

  void StartPusher() {
    world_->RunOn(Place::kSourceBulk, [&] { pusher_->Start(push_, &memory_); });
  }

  // Members, so that they outlive the lanes also in a test that gives up early.
  RunNotes notes_{&memory_};
  std::unique_ptr<Pusher> pusher_;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_BULK_LANE_FIXTURE_H_
