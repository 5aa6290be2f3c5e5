// A journal that a test can read, and make fail.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_JOURNAL_H_
#define FAULTLINE_TESTS_FAKES_FAKE_JOURNAL_H_

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "seams/journal.h"

namespace faultline {

class FakeJournal : public Journal {
 public:
  void FailAt(JournalPhase phase) { failing_.insert(phase); }
  void FailMakeDurable() { durable_fails_ = true; }
  // Called by MakeDurable, on its thread.
  void OnMakeDurable(std::function<void()> hook) { durable_hook_ = std::move(hook); }
  const std::vector<JournalPhase>& records() const { return records_; }
  bool Has(JournalPhase phase) const {
    return std::find(records_.begin(), records_.end(), phase) != records_.end();
  }
  // What was kept last.
  const std::optional<KeptMigration>& kept() const { return kept_; }
  // The last record at each time that it was made durable.
  const std::vector<JournalPhase>& made_durable_at() const { return made_durable_at_; }

  absl::Status Record(JournalPhase phase) override {
    if (failing_.contains(phase)) return absl::ResourceExhaustedError("the journal is full");
    records_.push_back(phase);
    return absl::OkStatus();
  }
  absl::Status Keep(const KeptTerms& terms, const VmDescription& vm) override {
    kept_ = KeptMigration{terms, {}};
    for (const RamRegion& region : vm.regions) kept_->regions.push_back({.layout = region.layout});
    return absl::OkStatus();
  }
  absl::Status MakeDurable() override {
    if (durable_hook_ != nullptr) durable_hook_();
    if (durable_fails_) return absl::DataLossError("the journal's disk is gone");
    if (!records_.empty()) made_durable_at_.push_back(records_.back());
    return absl::OkStatus();
  }

 private:
  std::set<JournalPhase> failing_;
  bool durable_fails_ = false;
  std::function<void()> durable_hook_;
  std::vector<JournalPhase> records_;
  std::optional<KeptMigration> kept_;
  std::vector<JournalPhase> made_durable_at_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_JOURNAL_H_
