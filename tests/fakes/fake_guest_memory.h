// A destination VM's memory made of byte arrays: the test plays the guest and the kernel.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_GUEST_MEMORY_H_
#define FAULTLINE_TESTS_FAKES_FAKE_GUEST_MEMORY_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "seams/executor.h"
#include "seams/guest_memory.h"

namespace faultline {

// Behaves as userfaultfd does: one fault event for each touch that has to wait, installing refused
// with kRetry while a discard has not been read, waiters that were woken without a page fault
// again. The listener is told by a task on `executor` after each new event.
//
// All methods may be called from any thread.
class FakeGuestMemory : public GuestMemory {
 public:
  // Gets the page's bytes, once they are there.
  using Touched = std::function<void(const std::vector<std::byte>& page)>;

  FakeGuestMemory(const MemoryLayout& layout, Executor* executor);

  // --- the guest ---

  // Touches a page: `touched` is called at once if the page is there, else from the call that
  // brings it (Install, InstallZeros, Disarm). Never called under the fake's lock.
  void Touch(PageId page, Touched touched = nullptr);
  // Writes a page that is there (false if it is not; then nothing happens).
  bool Write(PageId page, std::byte value);
  // One aligned word of a page that is there (nothing, or false, if it is not).
  std::optional<uint64_t> ReadWord(PageId page, uint64_t word) const;
  bool WriteWord(PageId page, uint64_t word, uint64_t value);
  // Gives pages up: they are gone at once, and a discard event waits. `done` is called when the
  // event has been read, as madvise returns to the guest then.
  void DiscardByGuest(PageRun run, std::function<void()> done = nullptr);

  // The two halves of it, as a VMM does them: the pages are taken out of the RAM file; later the
  // discard event comes. In between a page can be put in again.
  void PunchByVmm(PageRun run);
  void ReportDiscard(PageRun run, std::function<void()> done = nullptr);

  // --- the kernel and the host ---

  // The next `count` calls of Install and InstallZeros return `outcome` and do nothing.
  void FailInstalls(InstallOutcome outcome, int count, int error_number = 0);
  // The next Disarm fails with `status` and does nothing.
  void FailDisarm(absl::Status status);
  // What every Disarm that succeeds says.
  void SetDisarmNotice(std::string text);
  // From now on every ReadEvents fails and every Install returns kGone.
  void KillVm();

  // What its maker of huge pages does, step by step; the last one is done. Without a script it has
  // no such maker.
  void ScriptHugePages(std::vector<HugePageStep> steps);

  // Another process takes it over: its listener lives on `executor`.
  void MoveTo(Executor* executor);

  // --- what became of it ---

  bool IsPresent(PageId page) const;
  // All zeros if the page is not there.
  std::vector<std::byte> BytesOf(PageId page) const;
  size_t waiting_count() const;  // touches that still wait
  uint64_t install_count() const;
  size_t huge_page_steps() const;  // that were made
  bool disarmed() const;

  // GuestMemory:
  PageTable& table() override { return *table_; }
  void StartEvents(Listener* listener) override;
  void StopEvents() override;
  absl::Status ReadEvents(MemoryEvents* events) override;
  InstallResult Install(PageRun run, std::span<const std::byte> data) override;
  InstallResult InstallZeros(PageRun run) override;
  absl::Status Punch(PageRun run) override;
  absl::Status CheckPreCopy() const override { return absl::OkStatus(); }
  absl::Status Overwrite(PageRun run, std::span<const std::byte> data) override;
  absl::Status MakeMissing(PageRun run) override;
  absl::Status Wake(PageRun run) override;
  absl::StatusOr<std::string> Disarm() override;
  std::unique_ptr<HugePageMaker> MakeHugePageMaker() override;

 private:
  struct Page {
    bool present = false;
    std::vector<std::byte> bytes;
  };
  struct Discard {
    PageRun run;
    std::function<void()> done;
  };
  struct ScriptedFailure {
    InstallOutcome outcome;
    int error_number;
  };
  class ScriptedHugePageMaker;

  // Callbacks to run after the lock is released.
  using Calls = std::vector<std::function<void()>>;

  InstallResult InstallAll(PageRun run, const std::byte* data);
  // The rest needs mutex_.
  Page& At(PageId page) { return regions_[page.region][page.index]; }
  const Page& At(PageId page) const { return regions_[page.region][page.index]; }
  void Release(PageId page, Calls* calls);
  void Remove(PageRun run);
  void Notify();

  const MemoryLayout layout_;
  Executor* executor_;
  std::vector<uint64_t> table_memory_;
  std::unique_ptr<PageTable> table_;

  mutable std::mutex mutex_;
  std::vector<std::vector<Page>> regions_;
  std::multimap<PageId, Touched> waiting_;
  std::vector<PageId> faults_;
  std::vector<Discard> discards_;
  std::deque<ScriptedFailure> failures_;
  std::vector<HugePageStep> huge_page_script_;
  size_t huge_page_steps_ = 0;
  // Null while no events are wanted. Posted tasks look at it through a shared pointer, because they
  // may run after this object's end.
  std::shared_ptr<Listener*> listener_ = std::make_shared<Listener*>(nullptr);
  absl::Status disarm_failure_;
  std::string disarm_notice_;
  uint64_t install_count_ = 0;
  bool gone_ = false;
  bool disarmed_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_GUEST_MEMORY_H_
