// A dirty tracker that is told of the guest's writes by the test.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_DIRTY_TRACKER_H_
#define FAULTLINE_TESTS_FAKES_FAKE_DIRTY_TRACKER_H_

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "pages/memory_layout.h"
#include "pages/page_range_set.h"
#include "seams/dirty_tracker.h"

namespace faultline {

// What the VM wrote, and whether anything slows it: outlives its tracker. Any thread.
class FakeWrites {
 public:
  explicit FakeWrites(const MemoryLayout& layout) : layout_(layout), written_(layout.size()) {}

  // The guest writes. Also before Start and after Stop: nobody sees it then.
  void Write(PageId page) {
    std::lock_guard lock(mutex_);
    FAULTLINE_CHECK(page.index < layout_[page.region].page_count());
    if (tracked_) written_[page.region].Add(page.index, page.index + 1);
  }
  // The next Start or Scan fails with it.
  void FailWith(absl::Status status) {
    std::lock_guard lock(mutex_);
    failure_ = std::move(status);
  }
  // Called at the begin of every Start and Scan, without a lock: a guest that writes meanwhile.
  void OnCall(std::function<void()> hook) { hook_ = std::move(hook); }
  // Tracking slows the VM now.
  bool tracked() const {
    std::lock_guard lock(mutex_);
    return tracked_;
  }
  // Scans that were made.
  size_t scans() const {
    std::lock_guard lock(mutex_);
    return scans_;
  }
  // Of them those after which a first write is found, and costs the guest, again.
  size_t cleaning_scans() const {
    std::lock_guard lock(mutex_);
    return cleaning_scans_;
  }

 private:
  friend class FakeDirtyTracker;

  const MemoryLayout layout_;
  std::function<void()> hook_;
  mutable std::mutex mutex_;
  std::vector<PageRangeSet> written_;
  absl::Status failure_;
  size_t scans_ = 0;
  size_t cleaning_scans_ = 0;
  bool tracked_ = false;
};

class FakeDirtyTracker : public DirtyTracker {
 public:
  // `writes` outlives it.
  FakeDirtyTracker(FakeWrites* writes, bool needs_paused_vm)
      : writes_(writes), needs_paused_vm_(needs_paused_vm) {}
  ~FakeDirtyTracker() override { Stop().IgnoreError(); }

  bool needs_paused_vm() const override { return needs_paused_vm_; }
  std::string_view mechanism() const override { return "fake"; }
  absl::Status Start() override {
    if (writes_->hook_) writes_->hook_();
    std::lock_guard lock(writes_->mutex_);
    FAULTLINE_CHECK(!writes_->tracked_);
    if (!writes_->failure_.ok()) return std::exchange(writes_->failure_, absl::OkStatus());
    for (PageRangeSet& written : writes_->written_) written.Clear();
    writes_->tracked_ = true;
    return absl::OkStatus();
  }
  absl::Status Scan(std::span<const PageRun> runs, AfterScan after, PageSet* written) override {
    if (writes_->hook_) writes_->hook_();
    std::lock_guard lock(writes_->mutex_);
    FAULTLINE_CHECK(writes_->tracked_);
    if (!writes_->failure_.ok()) return std::exchange(writes_->failure_, absl::OkStatus());
    ++writes_->scans_;
    if (after == AfterScan::kClean) ++writes_->cleaning_scans_;
    for (const PageRun& run : runs) ScanRun(run, after, written);
    return absl::OkStatus();
  }
  absl::Status Stop() override {
    std::lock_guard lock(writes_->mutex_);
    writes_->tracked_ = false;
    return absl::OkStatus();
  }

 private:
  void ScanRun(PageRun run, AfterScan after, PageSet* written) {
    FAULTLINE_CHECK(run.end() <= writes_->layout_[run.region].page_count());
    if (run.empty()) return;
    PageRangeSet scanned;
    scanned.Add(run.first, run.end());
    PageRangeSet& all = writes_->written_[run.region];
    Intersection(all, scanned).ForEach([&](PageRange range) {
      written->Add({run.region, range.first, range.count()});
    });
    if (after == AfterScan::kClean) all.Remove(run.first, run.end());
  }

  FakeWrites* const writes_;
  const bool needs_paused_vm_;
};

class FakeDirtyTrackerFactory : public DirtyTrackerFactory {
 public:
  // `writes` outlives it.
  explicit FakeDirtyTrackerFactory(FakeWrites* writes) : writes_(writes) {}

  // Open fails with it from now on.
  void RefuseWith(absl::Status status) { refusal_ = std::move(status); }

  absl::StatusOr<std::unique_ptr<DirtyTracker>> Open(const VmDescription& vm) override {
    if (!refusal_.ok()) return refusal_;
    return std::make_unique<FakeDirtyTracker>(writes_, vm.direct_io);
  }

 private:
  FakeWrites* const writes_;
  absl::Status refusal_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_DIRTY_TRACKER_H_
