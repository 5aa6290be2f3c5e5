#include "prefetch/page_bitmap.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace faultline {
namespace {

// `count` ones from bit `shift` on; shift + count <= 64, count > 0.
uint64_t Mask(uint64_t shift, uint64_t count) { return (~uint64_t{0} >> (64 - count)) << shift; }

// Calls visit(word index, mask) for each word that [first, end) touches.
template <typename Visitor>
void ForEachWord(uint64_t first, uint64_t end, Visitor visit) {
  while (first < end) {
    uint64_t count = std::min(64 - first % 64, end - first);
    visit(first / 64, Mask(first % 64, count));
    first += count;
  }
}

}  // namespace

PageBitmap::PageBitmap(uint64_t page_count, const PageRangeSet& pages)
    : page_count_(page_count), words_((page_count + 63) / 64) {
  pages.ForEach([&](PageRange range) {
    FAULTLINE_CHECK(range.end <= page_count_);
    ForEachWord(range.first, range.end, [&](uint64_t i, uint64_t mask) { words_[i] |= mask; });
  });
  pages_left_ = pages.page_count();
}

bool PageBitmap::Remove(uint64_t page) {
  if (!Contains(page)) return false;
  words_[page / 64] &= ~(uint64_t{1} << page % 64);
  --pages_left_;
  return true;
}

PageRange PageBitmap::TakeFirst(uint64_t first, uint64_t end, uint64_t count_max) {
  FAULTLINE_CHECK(end <= page_count_);
  PageRange taken;
  taken.first = Find(first, end, /*inverted=*/false);
  if (taken.first >= end) return {};
  taken.end = Find(taken.first, std::min(end, taken.first + std::min(count_max, end)), true);
  ForEachWord(taken.first, taken.end, [&](uint64_t i, uint64_t mask) { words_[i] &= ~mask; });
  pages_left_ -= taken.count();
  return taken;
}

uint64_t PageBitmap::Find(uint64_t page, uint64_t end, bool inverted) const {
  while (page < end) {
    uint64_t word = inverted ? ~words_[page / 64] : words_[page / 64];
    word >>= page % 64;
    if (word != 0) return std::min(end, page + static_cast<uint64_t>(std::countr_zero(word)));
    page = (page / 64 + 1) * 64;
  }
  return end;
}

}  // namespace faultline
