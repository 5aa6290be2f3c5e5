#include "fakes/fake_guest_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace faultline {

FakeGuestMemory::FakeGuestMemory(const MemoryLayout& layout, Executor* executor)
    : layout_(layout),
      executor_(executor),
      table_memory_(PageTable::BytesNeeded(layout) / sizeof(uint64_t)),
      table_(PageTable::Format(std::as_writable_bytes(std::span(table_memory_)), layout)) {
  for (const RegionLayout& region : layout_) {
    regions_.emplace_back(region.page_count(),
                          Page{false, std::vector<std::byte>(region.page_size_bytes)});
  }
}

void FakeGuestMemory::Touch(PageId page, Touched touched) {
  std::unique_lock lock(mutex_);
  if (disarmed_) At(page).present = true;
  if (!At(page).present) {
    waiting_.emplace(page, std::move(touched));
    faults_.push_back(page);
    Notify();
    return;
  }
  std::vector<std::byte> bytes = At(page).bytes;
  lock.unlock();
  if (touched != nullptr) touched(bytes);
}

bool FakeGuestMemory::Write(PageId page, std::byte value) {
  std::lock_guard lock(mutex_);
  if (!At(page).present) return false;
  std::fill(At(page).bytes.begin(), At(page).bytes.end(), value);
  return true;
}

std::optional<uint64_t> FakeGuestMemory::ReadWord(PageId page, uint64_t word) const {
  std::lock_guard lock(mutex_);
  if (!At(page).present && !disarmed_) return std::nullopt;
  uint64_t value = 0;
  std::memcpy(&value, At(page).bytes.data() + word * sizeof(value), sizeof(value));
  return value;
}

bool FakeGuestMemory::WriteWord(PageId page, uint64_t word, uint64_t value) {
  std::lock_guard lock(mutex_);
  if (disarmed_) At(page).present = true;
  if (!At(page).present) return false;
  std::memcpy(At(page).bytes.data() + word * sizeof(value), &value, sizeof(value));
  return true;
}

void FakeGuestMemory::DiscardByGuest(PageRun run, std::function<void()> done) {
  PunchByVmm(run);
  ReportDiscard(run, std::move(done));
}

void FakeGuestMemory::PunchByVmm(PageRun run) {
  std::lock_guard lock(mutex_);
  Remove(run);
}

void FakeGuestMemory::ReportDiscard(PageRun run, std::function<void()> done) {
  std::unique_lock lock(mutex_);
  if (!disarmed_) {
    discards_.push_back({run, std::move(done)});
    Notify();
    return;
  }
  lock.unlock();
  if (done != nullptr) done();
}

void FakeGuestMemory::FailInstalls(InstallOutcome outcome, int count, int error_number) {
  std::lock_guard lock(mutex_);
  for (int i = 0; i < count; ++i) failures_.push_back({outcome, error_number});
}

void FakeGuestMemory::KillVm() {
  std::lock_guard lock(mutex_);
  gone_ = true;
  Notify();
}

void FakeGuestMemory::MoveTo(Executor* executor) {
  std::lock_guard lock(mutex_);
  executor_ = executor;
}

bool FakeGuestMemory::IsPresent(PageId page) const {
  std::lock_guard lock(mutex_);
  return At(page).present;
}

std::vector<std::byte> FakeGuestMemory::BytesOf(PageId page) const {
  std::lock_guard lock(mutex_);
  return At(page).bytes;
}

size_t FakeGuestMemory::waiting_count() const {
  std::lock_guard lock(mutex_);
  return waiting_.size();
}

uint64_t FakeGuestMemory::install_count() const {
  std::lock_guard lock(mutex_);
  return install_count_;
}

bool FakeGuestMemory::disarmed() const {
  std::lock_guard lock(mutex_);
  return disarmed_;
}

void FakeGuestMemory::StartEvents(Listener* listener) {
  std::lock_guard lock(mutex_);
  *listener_ = listener;
  if (!faults_.empty() || !discards_.empty() || gone_) Notify();
}

void FakeGuestMemory::StopEvents() {
  std::lock_guard lock(mutex_);
  *listener_ = nullptr;
}

absl::Status FakeGuestMemory::ReadEvents(MemoryEvents* events) {
  Calls calls;
  {
    std::lock_guard lock(mutex_);
    if (gone_) return absl::NotFoundError("read the userfaultfd: the VM's process is gone");
    for (Discard& discard : discards_) {
      events->discards.push_back(discard.run);
      if (discard.done != nullptr) calls.push_back(std::move(discard.done));
    }
    discards_.clear();
    events->faults.insert(events->faults.end(), faults_.begin(), faults_.end());
    faults_.clear();
  }
  for (auto& call : calls) call();
  return absl::OkStatus();
}

InstallResult FakeGuestMemory::Install(PageRun run, std::span<const std::byte> data) {
  FAULTLINE_CHECK(data.size() == run.count * layout_[run.region].page_size_bytes);
  return InstallAll(run, data.data());
}

InstallResult FakeGuestMemory::InstallZeros(PageRun run) { return InstallAll(run, nullptr); }

InstallResult FakeGuestMemory::InstallAll(PageRun run, const std::byte* data) {
  Calls calls;
  InstallResult result{InstallOutcome::kDone, 0, 0};
  {
    std::lock_guard lock(mutex_);
    ++install_count_;
    FAULTLINE_CHECK(run.end() <= regions_[run.region].size());
    if (gone_) return {InstallOutcome::kGone, 0, ESRCH};
    if (disarmed_) return {InstallOutcome::kGone, 0, ENOENT};
    if (!failures_.empty()) {
      ScriptedFailure failure = failures_.front();
      failures_.pop_front();
      return {failure.outcome, 0, failure.error_number};
    }
    if (!discards_.empty()) return {InstallOutcome::kRetry, 0, EAGAIN};
    for (; result.pages < run.count; ++result.pages) {
      PageId id{run.region, run.first + result.pages};
      Page& page = At(id);
      if (page.present) {
        result.outcome = InstallOutcome::kPresent;
        result.error_number = EEXIST;
        Release(id, &calls);
        break;
      }
      page.present = true;
      size_t size = page.bytes.size();
      if (data != nullptr) std::copy_n(data + result.pages * size, size, page.bytes.begin());
      Release(id, &calls);
    }
  }
  for (auto& call : calls) call();
  return result;
}

absl::Status FakeGuestMemory::Punch(PageRun run) {
  std::lock_guard lock(mutex_);
  Remove(run);
  return absl::OkStatus();
}

absl::Status FakeGuestMemory::Overwrite(PageRun run, std::span<const std::byte> data) {
  std::lock_guard lock(mutex_);
  if (gone_) return absl::NotFoundError("the VM's process is gone");
  FAULTLINE_CHECK(!disarmed_);
  for (uint64_t i = 0; i < run.count; ++i) {
    const PageId id{run.region, run.first + i};
    Page& page = At(id);
    FAULTLINE_CHECK(page.present && table_->Get(id) == PageState::kInstalled);
    std::copy_n(data.data() + i * page.bytes.size(), page.bytes.size(), page.bytes.begin());
  }
  return absl::OkStatus();
}

absl::Status FakeGuestMemory::MakeMissing(PageRun run) {
  std::lock_guard lock(mutex_);
  if (gone_) return absl::NotFoundError("the VM's process is gone");
  FAULTLINE_CHECK(!disarmed_);
  Remove(run);
  table_->MakeMissing(run);
  return absl::OkStatus();
}

absl::Status FakeGuestMemory::Wake(PageRun run) {
  Calls calls;
  {
    std::lock_guard lock(mutex_);
    bool faulted_again = false;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      PageId page = it->first;
      ++it;
      if (!run.Contains(page)) continue;
      if (At(page).present) {
        it = waiting_.upper_bound(page);
        Release(page, &calls);
      } else {
        faults_.push_back(page);
        faulted_again = true;
      }
    }
    if (faulted_again) Notify();
  }
  for (auto& call : calls) call();
  return absl::OkStatus();
}

class FakeGuestMemory::ScriptedHugePageMaker : public HugePageMaker {
 public:
  explicit ScriptedHugePageMaker(FakeGuestMemory* memory) : memory_(memory) {}

  HugePageStep Step() override {
    std::lock_guard lock(memory_->mutex_);
    FAULTLINE_CHECK(memory_->huge_page_steps_ < memory_->huge_page_script_.size());
    HugePageStep step = memory_->huge_page_script_[memory_->huge_page_steps_++];
    step.done = memory_->huge_page_steps_ == memory_->huge_page_script_.size();
    return step;
  }

 private:
  FakeGuestMemory* const memory_;
};

void FakeGuestMemory::ScriptHugePages(std::vector<HugePageStep> steps) {
  std::lock_guard lock(mutex_);
  huge_page_script_ = std::move(steps);
}

size_t FakeGuestMemory::huge_page_steps() const {
  std::lock_guard lock(mutex_);
  return huge_page_steps_;
}

std::unique_ptr<HugePageMaker> FakeGuestMemory::MakeHugePageMaker() {
  std::lock_guard lock(mutex_);
  FAULTLINE_CHECK(disarmed_);
  if (huge_page_script_.empty()) return nullptr;
  return std::make_unique<ScriptedHugePageMaker>(this);
}

void FakeGuestMemory::FailDisarm(absl::Status status) {
  std::lock_guard lock(mutex_);
  disarm_failure_ = std::move(status);
}

void FakeGuestMemory::SetDisarmNotice(std::string text) {
  std::lock_guard lock(mutex_);
  disarm_notice_ = std::move(text);
}

absl::StatusOr<std::string> FakeGuestMemory::Disarm() {
  Calls calls;
  std::string notice;
  {
    std::lock_guard lock(mutex_);
    if (!disarm_failure_.ok()) return std::exchange(disarm_failure_, absl::OkStatus());
    notice = disarm_notice_;
    disarmed_ = true;
    *listener_ = nullptr;
    for (Discard& discard : discards_) {
      if (discard.done != nullptr) calls.push_back(std::move(discard.done));
    }
    discards_.clear();
    faults_.clear();
    while (!waiting_.empty()) {
      PageId page = waiting_.begin()->first;
      At(page).present = true;
      Release(page, &calls);
    }
  }
  for (auto& call : calls) call();
  return notice;
}

void FakeGuestMemory::Release(PageId page, Calls* calls) {
  auto [first, last] = waiting_.equal_range(page);
  for (auto it = first; it != last; ++it) {
    if (it->second == nullptr) continue;
    calls->push_back([touched = std::move(it->second), bytes = At(page).bytes] { touched(bytes); });
  }
  waiting_.erase(first, last);
  // A fault whose page came before it was read is not reported any more.
  std::erase(faults_, page);
}

void FakeGuestMemory::Remove(PageRun run) {
  for (uint64_t page = run.first; page < run.end(); ++page) {
    Page& removed = At({run.region, page});
    removed.present = false;
    std::fill(removed.bytes.begin(), removed.bytes.end(), std::byte{0});
  }
}

void FakeGuestMemory::Notify() {
  if (*listener_ == nullptr) return;
  executor_->Post([listener = listener_] {
    if (*listener != nullptr) (*listener)->OnEventsReady();
  });
}

}  // namespace faultline
