// Which page an operation touches.
#include <math.h>
#include <string.h>

#include "guest.h"

static const double kZipfExponent = 0.99;

static enum { kUniform, kScan, kHotSet, kZipf } kind;
static uint64_t count;      // pages to choose from
static uint64_t hot_count;  // of which hot
static uint64_t scatter_bits;
static double zipf_first;  // the integral's value before rank 1 and behind the last rank
static double zipf_last;
static double zipf_accept;

// The integral of x^-s, and its inverse.
static double ZipfIntegral(double x) {
  return (pow(x, 1 - kZipfExponent) - 1) / (1 - kZipfExponent);
}

static double ZipfInverse(double y) {
  return pow(1 + y * (1 - kZipfExponent), 1 / (1 - kZipfExponent));
}

// A rank from 1 to `count`, rank k with a probability proportional to k^-0.99. Rejection-inversion
// (W. Hoermann, G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
// distributions", 1996): exact, and without a table, whose own pages would be missing too.
static uint64_t ZipfRank(struct Worker* worker, uint64_t random) {
  for (;;) {
    double uniform = (double)(random >> 11) / 9007199254740992.0;
    double y = zipf_last + uniform * (zipf_first - zipf_last);
    double x = ZipfInverse(y);
    double rank = floor(x + 0.5);
    if (rank < 1) rank = 1;
    if (rank > (double)count) rank = (double)count;
    if (rank - x <= zipf_accept) return (uint64_t)rank;
    if (y >= ZipfIntegral(rank + 0.5) - pow(rank, -kZipfExponent)) return (uint64_t)rank;
    random = NextRandom(&worker->random);
  }
}

// A fixed shuffle of 0..count-1, so that pages of neighbouring rank are not neighbours. Every step
// is reversible within the bits; numbers past the end are sent on until they fall inside.
static uint64_t Scatter(uint64_t number) {
  uint64_t mask = (1ull << scatter_bits) - 1;
  do {
    number = (number * 0x7fb5d329728ea185ull + 0x1234567) & mask;
    number ^= number >> (scatter_bits / 2 + 1);
    number = (number * 0x81dadef4bc2dd44dull) & mask;
    number ^= number >> (scatter_bits / 2 + 1);
  } while (number >= count);
  return number;
}

void ChooseStart(uint64_t pages) {
  count = pages;
  hot_count = options.hot_mib * 256 / options.threads;
  if (hot_count > count) hot_count = count;
  while ((1ull << scatter_bits) < count) ++scatter_bits;
  zipf_first = ZipfIntegral(1.5) - 1;
  zipf_last = ZipfIntegral((double)count + 0.5);
  zipf_accept = 2 - ZipfInverse(ZipfIntegral(2.5) - pow(2, -kZipfExponent));
  kind = strcmp(options.pattern, "scan") == 0     ? kScan
         : strcmp(options.pattern, "hotset") == 0 ? kHotSet
         : strcmp(options.pattern, "zipf") == 0   ? kZipf
                                                  : kUniform;
}

uint64_t ChoosePage(struct Worker* worker, uint64_t random) {
  switch (kind) {
    case kScan:
      return worker->scan_next++ % count;
    case kHotSet:  // in the middle: what is pushed in plain order gets there neither first nor last
      if (random % 1000 != 0) return (count - hot_count) / 2 + (random >> 10) % hot_count;
      return (random >> 10) % count;
    case kZipf:
      return Scatter(ZipfRank(worker, random) - 1);
    default:
      return random % count;
  }
}
