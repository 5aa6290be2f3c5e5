// One point of an experiment: the guest, and the policies of the engine that moves it. Both sides
// run the same points in the same order.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_POINT_H_
#define FAULTLINE_BENCH_EXPERIMENTS_POINT_H_

#include <cstdint>
#include <string>

#include "common/region.h"
#include "protocol/messages.h"

namespace faultline::bench::experiments {

// What each field means and may be stands in parameters.cc, for people and for the program.
struct Point {
  std::string transport = "tcp";

  uint64_t memory_mib = 256;
  double allocated_share = 1;
  double touched_share = 1;
  uint64_t word_repeats = 1;
  int64_t threads = 1;
  std::string pattern = "uniform";
  double zipf_theta = 0.99;
  double hot_memory_share = 0.1;
  double hot_access_share = 0.9;
  double write_share = 0.2;
  int64_t think_us = 0;
  uint64_t seed = 1;
  int64_t before_ms = 1000;
  int64_t after_ms = 1000;

  bool push = true;
  int64_t demand_only_ms = 1000;
  std::string push_order = "fault-around";
  bool read_around = true;
  uint64_t bandwidth_bytes_per_second = 0;
  std::string compression = "auto";
  int64_t poll_us = 0;
  IntegrityWish integrity = IntegrityWish::kDefault;

  uint64_t pages() const { return memory_mib * (uint64_t{1} << 20) / kPageBytes; }
  // The source has data in the first so many; the others were never allocated.
  uint64_t allocated_pages() const { return ShareOf(pages(), allocated_share); }
  // The guest works on the first so many of these.
  uint64_t touched_pages() const { return ShareOf(allocated_pages(), touched_share); }

 private:
  static uint64_t ShareOf(uint64_t whole, double share) {
    return static_cast<uint64_t>(static_cast<double>(whole) * share);
  }
};

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_POINT_H_
