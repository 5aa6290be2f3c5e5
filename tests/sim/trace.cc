#include "sim/trace.h"

#include <fmt/format.h>

#include <algorithm>

namespace faultline::sim {

void Trace::Note(Side side, const char* what, uint64_t a, uint64_t b, uint64_t c) {
  Event& event = last_[event_count_++ % kLastMax];
  event = {clock_->now_ns(), side, what, a, b, c};
  Mix(static_cast<uint64_t>(event.at_ns));
  Mix(static_cast<uint64_t>(side));
  for (const char* letter = what; *letter != '\0'; ++letter) Mix(static_cast<uint64_t>(*letter));
  Mix(a);
  Mix(b);
  Mix(c);
}

std::string Trace::Last() const {
  static constexpr const char* kSides[] = {"source", "destination", ""};
  std::string text;
  const uint64_t count = std::min<uint64_t>(event_count_, kLastMax);
  for (uint64_t i = event_count_ - count; i < event_count_; ++i) {
    const Event& event = last_[i % kLastMax];
    text +=
        fmt::format("  {:>14.3f} us  {:<11} {}  {} {} {:#x}\n",
                    static_cast<double>(event.at_ns - 1'000'000'000) / 1000,
                    kSides[static_cast<size_t>(event.side)], event.what, event.a, event.b, event.c);
  }
  return text;
}

}  // namespace faultline::sim
