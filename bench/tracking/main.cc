// What dirty tracking costs: the time to protect and to scan, the first write to a protected page
// beside a bare loop over the kernel's interface, and the share of a guest's speed that is left.
//
//   faultline-tracking [--mib 1024] [--seconds 1] [--case times|first_write|speed]
//
// One JSON object a line; times are medians.
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/monotonic_time.h"
#include "memory/dirty_tracker_factories.h"
#include "memory/uffd_setup.h"
#include "memory/wp_tracker.h"
#include "tracking/guest.h"

namespace faultline::tracking {
namespace {

constexpr int kRepeats = 7;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Milliseconds that `work` takes.
double TimeMs(const std::function<void()>& work) {
  const int64_t begin_ns = MonotonicNs();
  work();
  return static_cast<double>(MonotonicNs() - begin_ns) / 1e6;
}

std::unique_ptr<DirtyTracker> Open(const Memory& memory) {
  auto tracker = LocalDirtyTrackerFactory().Open(memory.Describe());
  if (!tracker.ok()) {
    fmt::print(stderr, "{}\n", MessageOf(tracker.status()));
    std::exit(1);
  }
  return std::move(*tracker);
}

uint64_t Scan(DirtyTracker* tracker, const Memory& memory) {
  PageSet written(memory.Describe().layout());
  const PageRun all{0, 0, memory.pages()};
  FAULTLINE_CHECK(tracker->Scan({&all, 1}, AfterScan::kClean, &written).ok());
  return written.page_count();
}

// Nanoseconds for one write to each page, by page.
double WriteAllNs(const Memory& memory) {
  return TimeMs([&] {
           for (uint64_t page = 0; page < memory.pages(); ++page) *memory.page(page) = page;
         }) *
         1e6 / static_cast<double>(memory.pages());
}

// The fewest calls that do it: register, protect, write.
double BareFirstWriteNs(const Memory& memory) {
  absl::StatusOr<FileDescriptor> uffd = MakeUffd();
  FAULTLINE_CHECK(uffd.ok() && SetUpUffd(uffd->get(), DirtyTrackingUffdFeatures()).ok());
  const uffdio_range all{.start = memory.address(), .len = memory.pages() * kPageBytes};
  uffdio_register request{.range = all, .mode = UFFDIO_REGISTER_MODE_WP, .ioctls = 0};
  FAULTLINE_CHECK(ioctl(uffd->get(), UFFDIO_REGISTER, &request) == 0);
  uffdio_writeprotect protect{.range = all, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
  FAULTLINE_CHECK(ioctl(uffd->get(), UFFDIO_WRITEPROTECT, &protect) == 0);
  return WriteAllNs(memory);
}

void MeasureTimes(const Memory& memory) {
  const double gib = static_cast<double>(memory.pages() * kPageBytes) / (1 << 30);
  std::vector<double> start, clean, sparse, all, stop;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    std::unique_ptr<DirtyTracker> tracker = Open(memory);
    start.push_back(TimeMs([&] { FAULTLINE_CHECK(tracker->Start().ok()); }) / gib);
    clean.push_back(TimeMs([&] { Scan(tracker.get(), memory); }) / gib);
    for (uint64_t page = 0; page < memory.pages(); page += 4) *memory.page(page) = page;
    sparse.push_back(TimeMs([&] { Scan(tracker.get(), memory); }) / gib);
    WriteAllNs(memory);
    all.push_back(TimeMs([&] { Scan(tracker.get(), memory); }) / gib);
    stop.push_back(TimeMs([&] { FAULTLINE_CHECK(tracker->Stop().ok()); }) / gib);
  }
  fmt::print(
      "{{\"case\":\"times\",\"start_ms_per_gib\":{:.2f},\"scan_clean_ms_per_gib\":{:.2f},"
      "\"scan_every_fourth_ms_per_gib\":{:.2f},\"scan_all_ms_per_gib\":{:.2f},"
      "\"stop_ms_per_gib\":{:.2f}}}\n",
      Median(start), Median(clean), Median(sparse), Median(all), Median(stop));
}

void MeasureFirstWrite(const Memory& memory) {
  std::vector<double> untracked, bare, started, scanned;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    WriteAllNs(memory);  // what tracking has left read-only faults once more
    untracked.push_back(WriteAllNs(memory));
    bare.push_back(BareFirstWriteNs(memory));
    std::unique_ptr<DirtyTracker> tracker = Open(memory);
    FAULTLINE_CHECK(tracker->Start().ok());
    started.push_back(WriteAllNs(memory));
    FAULTLINE_CHECK(Scan(tracker.get(), memory) == memory.pages());
    scanned.push_back(WriteAllNs(memory));
  }
  const double after_ns = std::max(Median(started), Median(scanned));
  fmt::print(
      "{{\"case\":\"first_write\",\"untracked_ns\":{:.0f},\"bare_ns\":{:.0f},"
      "\"after_start_ns\":{:.0f},\"after_scan_ns\":{:.0f},\"after_ns\":{:.0f},"
      "\"ratio_to_bare\":{:.3f}}}\n",
      Median(untracked), Median(bare), Median(started), Median(scanned), after_ns,
      after_ns / Median(bare));
}

// Writes a second in `seconds`, while somebody scans every `every_ms` (0: nobody tracks).
double Speed(const Memory& memory, Pattern pattern, int every_ms, double seconds) {
  Writer writer(&memory, pattern);
  std::unique_ptr<DirtyTracker> tracker;
  if (every_ms > 0) {
    tracker = Open(memory);
    FAULTLINE_CHECK(tracker->Start().ok());
  }
  const uint64_t before = writer.writes();
  const int64_t begin_ns = MonotonicNs();
  const int64_t end_ns = begin_ns + static_cast<int64_t>(seconds * 1e9);
  while (MonotonicNs() < end_ns) {
    const int64_t step_ms = every_ms > 0 ? every_ms : 100;
    std::this_thread::sleep_for(std::chrono::milliseconds(step_ms));
    if (tracker != nullptr) Scan(tracker.get(), memory);
  }
  return static_cast<double>(writer.writes() - before) * 1e9 /
         static_cast<double>(MonotonicNs() - begin_ns);
}

void MeasureSpeed(const Memory& memory, double seconds) {
  constexpr Pattern kPatterns[] = {{"uniform, nothing but writes", false, 0},
                                   {"zipf, nothing but writes", true, 0},
                                   {"zipf, 1 us of work per write", true, 1000},
                                   {"uniform, 10 us of work per write", false, 10000}};
  for (const Pattern& pattern : kPatterns) {
    for (int every_ms : {100, 1000}) {
      // In turn, so that the machine's moods fall on both.
      std::vector<double> ratios;
      for (int repeat = 0; repeat < 3; ++repeat) {
        const double untracked = Speed(memory, pattern, 0, seconds);
        ratios.push_back(Speed(memory, pattern, every_ms, seconds) / untracked);
      }
      fmt::print(
          "{{\"case\":\"speed\",\"guest\":\"{}\",\"scan_every_ms\":{},\"of_untracked\":{:.3f}}}\n",
          pattern.name, every_ms, Median(ratios));
    }
  }
}

}  // namespace
}  // namespace faultline::tracking

int main(int argc, char** argv) {
  uint64_t mib = 1024;
  double seconds = 1;
  std::string_view only;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--mib") == 0) mib = strtoull(argv[i + 1], nullptr, 10);
    if (strcmp(argv[i], "--seconds") == 0) seconds = strtod(argv[i + 1], nullptr);
    if (strcmp(argv[i], "--case") == 0) only = argv[i + 1];
  }
  const faultline::tracking::Memory memory(mib);
  const auto wanted = [only](std::string_view name) { return only.empty() || only == name; };
  if (wanted("times")) faultline::tracking::MeasureTimes(memory);
  if (wanted("first_write")) faultline::tracking::MeasureFirstWrite(memory);
  if (wanted("speed")) faultline::tracking::MeasureSpeed(memory, seconds);
  return 0;
}
