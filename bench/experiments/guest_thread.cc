#include "experiments/guest_thread.h"

#include "base/monotonic_time.h"
#include "common/cpu_time.h"
#include "common/distribution.h"

namespace faultline::bench::experiments {
namespace {

// How many of `pages` have this remainder.
uint64_t CountOf(uint64_t pages, uint64_t threads, uint64_t number) {
  return (pages - number + threads - 1) / threads;
}

uint64_t SeedOf(const Point& point, uint64_t number) { return Random(point.seed).Next() + number; }

}  // namespace

GuestThread::GuestThread(const Point& point, const Region* region, GuestPlace place,
                         uint64_t number)
    : point_(point),
      region_(region),
      place_(place),
      threads_(static_cast<uint64_t>(point.threads)),
      number_(number),
      pattern_(MakeAccessPattern(point, CountOf(point.touched_pages(), threads_, number),
                                 Random(SeedOf(point, number)).Next())),
      random_(~SeedOf(point, number)),
      writes_(CountOf(point.touched_pages(), threads_, number)),
      touched_(writes_.size()) {}

void GuestThread::Run(int64_t start_ns, const std::atomic<bool>* stop) {
  bool must_touch_the_rest = place_ == GuestPlace::kDestination && !point_.push;
  const int64_t rest_at_ns = start_ns + point_.demand_only_ms * 1'000'000;
  while (!stop->load(std::memory_order_relaxed)) {
    const int64_t now_ns = Operate();
    figures_.speed.Count((now_ns - start_ns) / 1000);
    if (must_touch_the_rest && now_ns >= rest_at_ns) {
      TouchTheRest(stop);
      must_touch_the_rest = false;
    }
    if (point_.think_us > 0) Think(point_.think_us);
  }
  figures_.cpu_seconds = ThreadCpuSeconds();
}

int64_t GuestThread::Operate() {
  const uint64_t index = pattern_->Next();
  const bool write = random_.Unit() < point_.write_share;
  // A page that was here once does not go away.
  const bool was_missing = !touched_[index] && region_->IsMissing(PageOf(index));
  touched_[index] = true;
  if (!was_missing) {
    Touch(index, write);
    return MonotonicNs();
  }
  const int64_t begin_ns = MonotonicNs();
  Touch(index, write);
  const int64_t end_ns = MonotonicNs();
  if (end_ns - begin_ns >= kShortestFaultNs) {
    figures_.waited_ns.push_back(end_ns - begin_ns);
  } else {
    ++figures_.arrived_meanwhile;
  }
  return end_ns;
}

void GuestThread::Touch(uint64_t index, bool write) {
  const uint64_t page = PageOf(index);
  volatile uint64_t* words = region_->words(page);
  if (write) {
    if (place_ == GuestPlace::kDestination) ++writes_[index];
    words[0] = FirstWord(page, writes_[index]);
    return;
  }
  const uint64_t word = 1 + random_.Below(kWordsPerPage - 1);
  const bool right = words[0] == FirstWord(page, writes_[index]) && words[word] == Word(page, word);
  if (!right) ++figures_.wrong_reads;
}

void GuestThread::TouchTheRest(const std::atomic<bool>* stop) {
  for (uint64_t page = number_; page < point_.allocated_pages(); page += threads_) {
    if (stop->load(std::memory_order_relaxed)) return;
    static_cast<void>(*reinterpret_cast<volatile std::byte*>(region_->page(page)));
  }
  touched_.assign(touched_.size(), true);
}

uint64_t GuestThread::CountWrongPages() const {
  uint64_t wrong = 0;
  for (uint64_t page = number_; page < point_.allocated_pages(); page += threads_) {
    const uint64_t index = page / threads_;
    const uint64_t* words = region_->words(page);
    uint64_t differences = words[0] ^ FirstWord(page, index < writes_.size() ? writes_[index] : 0);
    for (uint64_t word = 1; word < kWordsPerPage; ++word) {
      differences |= words[word] ^ Word(page, word);
    }
    if (differences != 0) ++wrong;
  }
  return wrong;
}

}  // namespace faultline::bench::experiments
