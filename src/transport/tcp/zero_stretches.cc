#include "transport/tcp/zero_stretches.h"

#include <algorithm>

#include "base/check.h"
#include "base/zero_bytes.h"

namespace faultline {
namespace {

// The first page from `page` on that is zero, or is not, as asked for.
uint64_t FindPage(std::span<const std::byte> bytes, size_t page_bytes, uint64_t page, bool zero) {
  const uint64_t pages = bytes.size() / page_bytes;
  while (page < pages && IsZero(bytes.subspan(page * page_bytes, page_bytes)) != zero) ++page;
  return page;
}

}  // namespace

Stretch FirstStretch(std::span<const std::byte> bytes, size_t page_bytes) {
  const uint64_t pages = bytes.size() / page_bytes;
  FAULTLINE_CHECK(pages > 0 && bytes.size() % page_bytes == 0);
  const uint64_t worth = std::max<uint64_t>(1, kZeroStretchBytesMin / page_bytes);
  uint64_t end = 0;
  while (true) {
    const uint64_t zeros = FindPage(bytes, page_bytes, end, true);
    end = FindPage(bytes, page_bytes, zeros, false);
    // A run that ends in a few zero pages may be one with what follows it.
    if (end - zeros >= worth) return zeros == 0 ? Stretch{end, true} : Stretch{zeros, false};
    if (end == pages) return {pages, false};
  }
}

}  // namespace faultline
