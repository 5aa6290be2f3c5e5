#include "common/distribution.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace faultline::bench {

Distribution Summarize(std::vector<int64_t> values_ns) {
  Distribution result;
  result.count = values_ns.size();
  if (values_ns.empty()) return result;
  std::sort(values_ns.begin(), values_ns.end());
  auto at = [&](uint64_t per_mille) {
    const uint64_t rank = (result.count * per_mille + 999) / 1000;
    return values_ns[std::max<uint64_t>(rank, 1) - 1];
  };
  result.p50 = at(500);
  result.p90 = at(900);
  result.p99 = at(990);
  result.p999 = at(999);
  result.max = values_ns.back();
  return result;
}

nlohmann::ordered_json InMicroseconds(const Distribution& ns) {
  auto us = [](int64_t value) { return static_cast<double>(value) / 1000; };
  return {{"count", ns.count},    {"p50_us", us(ns.p50)},   {"p90_us", us(ns.p90)},
          {"p99_us", us(ns.p99)}, {"p999_us", us(ns.p999)}, {"max_us", us(ns.max)}};
}

}  // namespace faultline::bench
