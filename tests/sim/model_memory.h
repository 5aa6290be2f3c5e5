// What the guest knows of its own memory: the truth that both hosts' memories are held against.
#ifndef FAULTLINE_TESTS_SIM_MODEL_MEMORY_H_
#define FAULTLINE_TESTS_SIM_MODEL_MEMORY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "pages/memory_layout.h"
#include "pages/page_types.h"

namespace faultline::sim {

// Word by word, wherever the VM runs. Pages that are being given up have no content that anybody
// may rely on until the discard has returned; from then on they are zero. One thread.
class ModelMemory {
 public:
  explicit ModelMemory(const MemoryLayout& layout) : layout_(layout) {
    for (const RegionLayout& region : layout) regions_.emplace_back(region.size_bytes / 8);
  }

  const MemoryLayout& layout() const { return layout_; }
  uint64_t WordCount(RegionIndex region) const { return layout_[region].page_size_bytes / 8; }
  uint64_t Read(PageId page, uint64_t word) const { return WordsOf(page)[word]; }
  void Write(PageId page, uint64_t word, uint64_t value) {
    regions_[page.region][page.index * WordCount(page.region) + word] = value;
    if (auto old = old_.find(page); old != old_.end()) old->second[word] = value;
  }
  void Zero(PageId page) {
    auto first =
        regions_[page.region].begin() + static_cast<ptrdiff_t>(page.index * WordCount(page.region));
    std::fill_n(first, WordCount(page.region), 0);
  }
  std::span<const uint64_t> WordsOf(PageId page) const {
    return std::span(regions_[page.region])
        .subspan(page.index * WordCount(page.region), WordCount(page.region));
  }
  bool Equals(PageId page, std::span<const std::byte> bytes) const {
    auto expected = std::as_bytes(WordsOf(page));
    if (std::equal(expected.begin(), expected.end(), bytes.begin(), bytes.end())) return true;
    auto old = old_.find(page);
    if (old == old_.end()) return false;
    auto allowed = std::as_bytes(std::span(old->second));
    return std::equal(allowed.begin(), allowed.end(), bytes.begin(), bytes.end());
  }
  bool IsZero(PageId page) const {
    auto words = WordsOf(page);
    return std::all_of(words.begin(), words.end(), [](uint64_t word) { return word == 0; });
  }

  // The page is zero, or all of it is `old`; which, is known when a word tells them apart.
  void MayBeOld(PageId page, std::vector<uint64_t> old) {
    Zero(page);
    old_[page] = std::move(old);
  }
  // Whether the guest may see this, by all that it knows.
  bool Accepts(PageId page, uint64_t word, uint64_t seen) {
    auto old = old_.find(page);
    if (old == old_.end() || seen == Read(page, word)) {
      if (old != old_.end() && seen != old->second[word]) old_.erase(old);
      return seen == Read(page, word);
    }
    if (seen != old->second[word]) return false;
    const std::vector<uint64_t> words = std::move(old->second);
    old_.erase(old);
    for (uint64_t i = 0; i < words.size(); ++i) Write(page, i, words[i]);
    return true;
  }

  void BeginDiscard(PageId page) {
    old_.erase(page);
    Zero(page);
    in_discard_.insert(page);
  }
  void EndDiscard(PageId page) { in_discard_.erase(page); }
  bool InDiscard(PageId page) const { return in_discard_.contains(page); }

 private:
  const MemoryLayout layout_;
  std::vector<std::vector<uint64_t>> regions_;
  std::set<PageId> in_discard_;
  std::map<PageId, std::vector<uint64_t>> old_;  // what a page may hold instead
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_MODEL_MEMORY_H_
