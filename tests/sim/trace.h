// What happened in one simulated migration: a digest of all of it, and its last events in words.
#ifndef FAULTLINE_TESTS_SIM_TRACE_H_
#define FAULTLINE_TESTS_SIM_TRACE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fakes/manual_executor.h"
#include "pages/page_types.h"

namespace faultline::sim {

enum class Side : uint8_t { kSource, kDestination, kWorld };

// The same seed gives the same digest: events enter it as numbers, and so does their moment. Words
// are made only of the last ones, and only when somebody asks. One thread.
class Trace {
 public:
  // `clock` outlives the trace.
  explicit Trace(const ManualClock* clock) : clock_(clock), last_(kLastMax) {}

  // `what` is a literal: only its address is kept.
  void Note(Side side, const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);
  void NotePages(Side side, const char* what, PageRun run, uint64_t outcome = 0) {
    Note(side, what, run.region, run.first, run.count << 8 | outcome);
  }

  uint64_t digest() const { return digest_; }
  uint64_t event_count() const { return event_count_; }
  // The last events, one a line.
  std::string Last() const;

 private:
  static constexpr size_t kLastMax = 60;
  struct Event {
    int64_t at_ns = 0;
    Side side = Side::kWorld;
    const char* what = "";
    uint64_t a = 0, b = 0, c = 0;
  };
  void Mix(uint64_t value) {
    digest_ = (digest_ ^ value) * 0x9e3779b97f4a7c15u;
    digest_ ^= digest_ >> 29;
  }

  const ManualClock* const clock_;
  std::vector<Event> last_;  // a ring
  uint64_t event_count_ = 0;
  uint64_t digest_ = 0x5eed;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_TRACE_H_
