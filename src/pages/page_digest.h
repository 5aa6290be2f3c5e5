// Check sums of pages: taken where the source reads them, held against what is about to be put in.
//
// XXH3 of 64 bits. It finds what changed by accident; who means to can make others fit it.
#ifndef FAULTLINE_PAGES_PAGE_DIGEST_H_
#define FAULTLINE_PAGES_PAGE_DIGEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "pages/page_range_set.h"
#include "pages/page_types.h"

struct XXH3_state_s;

namespace faultline {

inline constexpr size_t kPageDigestBytes = 8;  // on the wire, little-endian

// Of all of `run`'s bytes; none: its pages are zero. Where the run lies is part of it, so that
// right bytes in a wrong place do not fit. Pure; any thread.
uint64_t DigestOfRun(PageRun run, std::span<const std::byte> bytes);

// The same for bytes that come piece by piece. One thread.
class RunDigester {
 public:
  RunDigester();

  void Begin();
  void Add(std::span<const std::byte> bytes);
  // Since Begin.
  uint64_t bytes() const { return bytes_; }
  // Of `run`, all of whose bytes were added.
  uint64_t End(PageRun run) const;

 private:
  struct FreeState {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, FreeState> state_;
  uint64_t bytes_ = 0;
};

// Of the name of a page that is asked for.
uint32_t DigestOfRequest(PageId page);

// Adds a region's ranges to the check sum of an allocation map: begin with 0, and give all ranges
// in the order in which they are sent.
uint64_t DigestWithRange(uint64_t digest, RegionIndex region, PageRange range);

}  // namespace faultline

#endif  // FAULTLINE_PAGES_PAGE_DIGEST_H_
