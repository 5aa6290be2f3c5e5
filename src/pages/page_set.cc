#include "pages/page_set.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/check.h"

namespace faultline {
namespace {

constexpr uint64_t kPagesPerWord = 64;

uint64_t CountBits(const std::vector<uint64_t>& words) {
  return std::accumulate(words.begin(), words.end(), uint64_t{0}, [](uint64_t sum, uint64_t word) {
    return sum + static_cast<uint64_t>(std::popcount(word));
  });
}

}  // namespace

PageSet::PageSet(const MemoryLayout& layout) {
  for (const RegionLayout& region : layout) {
    page_counts_.push_back(region.page_count());
    page_sizes_bytes_.push_back(region.page_size_bytes);
    words_.emplace_back((region.page_count() + kPagesPerWord - 1) / kPagesPerWord);
  }
}

PageSet::PageSet(const MemoryLayout& layout, const std::vector<PageRangeSet>& pages)
    : PageSet(layout) {
  FAULTLINE_CHECK(pages.size() == layout.size());
  for (RegionIndex region = 0; region < pages.size(); ++region) {
    pages[region].ForEach([&](PageRange range) { Add({region, range.first, range.count()}); });
  }
}

template <typename Change>
void PageSet::Rewrite(PageRun run, Change change) {
  FAULTLINE_CHECK(run.end() <= page_counts_[run.region]);
  std::vector<uint64_t>& words = words_[run.region];
  for (uint64_t page = run.first; page < run.end();) {
    const uint64_t bit = page % kPagesPerWord;
    const uint64_t count = std::min(kPagesPerWord - bit, run.end() - page);
    const uint64_t mask = (count == kPagesPerWord ? ~uint64_t{0} : (uint64_t{1} << count) - 1)
                          << bit;
    uint64_t& word = words[page / kPagesPerWord];
    word = change(word, mask);
    page += count;
  }
}

void PageSet::Add(PageRun run) {
  Rewrite(run, [](uint64_t word, uint64_t mask) { return word | mask; });
}

void PageSet::Remove(PageRun run) {
  Rewrite(run, [](uint64_t word, uint64_t mask) { return word & ~mask; });
}

void PageSet::Clear() {
  for (std::vector<uint64_t>& words : words_) std::fill(words.begin(), words.end(), 0);
}

void PageSet::Unite(const PageSet& other) {
  FAULTLINE_CHECK(page_counts_ == other.page_counts_);
  for (size_t region = 0; region < words_.size(); ++region) {
    for (size_t i = 0; i < words_[region].size(); ++i) words_[region][i] |= other.words_[region][i];
  }
}

void PageSet::Intersect(const PageSet& other) {
  FAULTLINE_CHECK(page_counts_ == other.page_counts_);
  for (size_t region = 0; region < words_.size(); ++region) {
    for (size_t i = 0; i < words_[region].size(); ++i) words_[region][i] &= other.words_[region][i];
  }
}

void PageSet::Subtract(const PageSet& other) {
  FAULTLINE_CHECK(page_counts_ == other.page_counts_);
  for (size_t region = 0; region < words_.size(); ++region) {
    for (size_t i = 0; i < words_[region].size(); ++i) {
      words_[region][i] &= ~other.words_[region][i];
    }
  }
}

uint64_t PageSet::page_count() const {
  uint64_t pages = 0;
  for (const std::vector<uint64_t>& words : words_) pages += CountBits(words);
  return pages;
}

uint64_t PageSet::byte_count() const {
  uint64_t bytes = 0;
  for (size_t region = 0; region < words_.size(); ++region) {
    bytes += CountBits(words_[region]) * page_sizes_bytes_[region];
  }
  return bytes;
}

bool PageSet::empty() const {
  return std::ranges::all_of(words_, [](const std::vector<uint64_t>& words) {
    return std::ranges::all_of(words, [](uint64_t word) { return word == 0; });
  });
}

uint64_t PageSet::Find(RegionIndex region, uint64_t page, uint64_t end, bool inverted) const {
  while (page < end) {
    uint64_t word = words_[region][page / kPagesPerWord];
    if (inverted) word = ~word;
    word >>= page % kPagesPerWord;
    if (word != 0) return std::min(end, page + static_cast<uint64_t>(std::countr_zero(word)));
    page = (page / kPagesPerWord + 1) * kPagesPerWord;
  }
  return end;
}

PageRun PageSet::FindFirst(PageRun within, uint64_t count_max) const {
  FAULTLINE_CHECK(within.end() <= page_counts_[within.region]);
  const uint64_t first = Find(within.region, within.first, within.end(), /*inverted=*/false);
  if (first == within.end()) return {};
  const uint64_t end = within.end() - first > count_max ? first + count_max : within.end();
  return {within.region, first, Find(within.region, first, end, /*inverted=*/true) - first};
}

PageRangeSet PageSet::RangesOf(RegionIndex region) const {
  PageRangeSet ranges;
  PageRun run = FindFirst({region, 0, page_counts_[region]});
  for (; !run.empty(); run = FindFirst({region, run.end(), page_counts_[region] - run.end()})) {
    ranges.Add(run.first, run.end());
  }
  return ranges;
}

}  // namespace faultline
