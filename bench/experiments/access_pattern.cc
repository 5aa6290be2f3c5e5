#include "experiments/access_pattern.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "experiments/random.h"

namespace faultline::bench::experiments {
namespace {

// The pages in a random order.
std::vector<uint32_t> Scatter(uint64_t count, Random* random) {
  std::vector<uint32_t> pages(count);
  std::iota(pages.begin(), pages.end(), 0u);
  for (uint64_t left = count; left > 1; --left) {
    std::swap(pages[left - 1], pages[random->Below(left)]);
  }
  return pages;
}

class Uniform : public AccessPattern {
 public:
  Uniform(uint64_t count, uint64_t seed) : count_(count), random_(seed) {}
  uint64_t Next() override { return random_.Below(count_); }

 private:
  const uint64_t count_;
  Random random_;
};

class Sequential : public AccessPattern {
 public:
  explicit Sequential(uint64_t count) : count_(count) {}
  uint64_t Next() override { return std::exchange(next_, next_ + 1 == count_ ? 0 : next_ + 1); }

 private:
  const uint64_t count_;
  uint64_t next_ = 0;
};

class Hotset : public AccessPattern {
 public:
  Hotset(const Point& point, uint64_t count, uint64_t seed)
      : hot_access_share_(point.hot_access_share),
        random_(seed),
        pages_(Scatter(count, &random_)),
        hot_(std::clamp<uint64_t>(
            static_cast<uint64_t>(static_cast<double>(count) * point.hot_memory_share), 1, count)) {
  }

  uint64_t Next() override {
    const uint64_t cold = pages_.size() - hot_;
    if (cold == 0 || random_.Unit() < hot_access_share_) return pages_[random_.Below(hot_)];
    return pages_[hot_ + random_.Below(cold)];
  }

 private:
  const double hot_access_share_;
  Random random_;
  const std::vector<uint32_t> pages_;  // the hot ones first
  const uint64_t hot_;
};

// Rejection-inversion (W. Hormann, G. Derflinger: Rejection-inversion to generate variates from
// monotone discrete distributions, 1996): no table, any exponent.
class Zipf : public AccessPattern {
 public:
  Zipf(double theta, uint64_t count, uint64_t seed)
      : theta_(theta),
        random_(seed),
        pages_(Scatter(count, &random_)),
        first_(Integral(1.5) - 1),
        last_(Integral(static_cast<double>(count) + 0.5)),
        squeeze_(2 - InverseIntegral(Integral(2.5) - Density(2))) {}

  uint64_t Next() override {
    const auto count = static_cast<double>(pages_.size());
    while (true) {
      const double u = last_ + random_.Unit() * (first_ - last_);
      const double x = InverseIntegral(u);
      const double rank = std::clamp(std::floor(x + 0.5), 1.0, count);
      if (rank - x <= squeeze_ || u >= Integral(rank + 0.5) - Density(rank)) {
        return pages_[static_cast<uint64_t>(rank) - 1];
      }
    }
  }

 private:
  double Density(double x) const { return std::exp(-theta_ * std::log(x)); }
  // Of the density, and its inverse; both go on smoothly through theta = 1.
  double Integral(double x) const {
    const double log_x = std::log(x);
    const double t = (1 - theta_) * log_x;
    return log_x * (std::abs(t) > 1e-8 ? std::expm1(t) / t : 1 + t / 2);
  }
  double InverseIntegral(double y) const {
    const double t = std::max(y * (1 - theta_), -1.0);
    return std::exp(y * (std::abs(t) > 1e-8 ? std::log1p(t) / t : 1 - t / 2));
  }

  const double theta_;
  Random random_;
  const std::vector<uint32_t> pages_;  // by rank
  const double first_;
  const double last_;
  const double squeeze_;
};

}  // namespace

std::unique_ptr<AccessPattern> MakeAccessPattern(const Point& point, uint64_t count,
                                                 uint64_t seed) {
  if (point.pattern == "zipf") return std::make_unique<Zipf>(point.zipf_theta, count, seed);
  if (point.pattern == "hotset") return std::make_unique<Hotset>(point, count, seed);
  if (point.pattern == "sequential") return std::make_unique<Sequential>(count);
  return std::make_unique<Uniform>(count, seed);
}

}  // namespace faultline::bench::experiments
