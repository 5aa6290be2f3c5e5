// Whether what is pushed is packed on its way.
#ifndef FAULTLINE_SEAMS_COMPRESSION_H_
#define FAULTLINE_SEAMS_COMPRESSION_H_

#include <cstdint>

namespace faultline {

enum class Compression : uint8_t {
  kAuto = 0,  // where the link is the limit and the memory packs, as measured meanwhile
  kOff = 1,
  kLz4 = 2,   // every run that gets smaller by it
  kZstd = 3,  // the same
};

// Bytes of runs that were packed, before and after.
struct PackedBytes {
  uint64_t in = 0;
  uint64_t out = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_COMPRESSION_H_
