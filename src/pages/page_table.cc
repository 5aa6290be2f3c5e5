#include "pages/page_table.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/check.h"

namespace faultline {
namespace {

constexpr uint64_t kMagic = 0x314c42544c544c46;  // "FLTLTBL1"

// What stands at the front of the table's memory, before the words of the first region.
struct Header {
  uint64_t magic;
  uint64_t region_count;
  uint64_t page_counts[kRegionsMax];
};
constexpr size_t kHeaderBytes = 4096;
static_assert(sizeof(Header) <= kHeaderBytes);

constexpr uint64_t kLowBits = 0x5555555555555555;

uint64_t WordsOf(const RegionLayout& region) { return (region.page_count() + 31) / 32; }

// One bit (the low one of each pair) for each page of the word that is kMissing.
uint64_t MissingBits(uint64_t word) { return ~(word | (word >> 1)) & kLowBits; }

}  // namespace

size_t PageTable::BytesNeeded(const MemoryLayout& layout) {
  size_t bytes = kHeaderBytes;
  for (const RegionLayout& region : layout) bytes += WordsOf(region) * sizeof(uint64_t);
  return (bytes + 4095) / 4096 * 4096;
}

PageTable::PageTable(std::span<std::byte> memory, const MemoryLayout& layout) : layout_(layout) {
  static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(uint64_t));
  FAULTLINE_CHECK(memory.size() >= BytesNeeded(layout));
  auto* words = reinterpret_cast<Word*>(memory.data() + kHeaderBytes);
  for (const RegionLayout& region : layout_) {
    regions_.push_back(words);
    words += WordsOf(region);
  }
}

std::unique_ptr<PageTable> PageTable::Format(std::span<std::byte> memory,
                                             const MemoryLayout& layout) {
  std::unique_ptr<PageTable> table(new PageTable(memory, layout));
  Header header{.magic = kMagic, .region_count = layout.size(), .page_counts = {}};
  for (size_t i = 0; i < layout.size(); ++i) header.page_counts[i] = layout[i].page_count();
  memcpy(memory.data(), &header, sizeof(header));
  table->missing_pages_ = TotalPages(layout);
  return table;
}

absl::StatusOr<std::unique_ptr<PageTable>> PageTable::Open(std::span<std::byte> memory,
                                                           const MemoryLayout& layout) {
  if (memory.size() < BytesNeeded(layout)) {
    return absl::InvalidArgumentError(fmt::format(
        "page-state table: {} bytes, but this VM's needs {}", memory.size(), BytesNeeded(layout)));
  }
  Header header;
  memcpy(&header, memory.data(), sizeof(header));
  if (header.magic != kMagic || header.region_count != layout.size()) {
    return absl::InvalidArgumentError("page-state table: its header is not that of this VM");
  }
  for (size_t i = 0; i < layout.size(); ++i) {
    if (header.page_counts[i] != layout[i].page_count()) {
      return absl::InvalidArgumentError(
          fmt::format("page-state table: region '{}' has {} pages there and {} in the VM",
                      layout[i].name, header.page_counts[i], layout[i].page_count()));
    }
  }
  std::unique_ptr<PageTable> table(new PageTable(memory, layout));
  table->missing_pages_ = table->CountPages(PageState::kMissing);
  return table;
}

PageState PageTable::Get(PageId page) const {
  uint64_t word = WordOf(page).load(std::memory_order_acquire);
  return static_cast<PageState>((word >> (page.index % kPagesPerWord * 2)) & 3);
}

bool PageTable::Change(PageId page, PageState from, PageState to) {
  Word& word = WordOf(page);
  uint64_t shift = page.index % kPagesPerWord * 2;
  uint64_t old = word.load(std::memory_order_acquire);
  uint64_t wanted;
  do {
    if (static_cast<PageState>((old >> shift) & 3) != from) return false;
    wanted = (old & ~(uint64_t{3} << shift)) | (static_cast<uint64_t>(to) << shift);
  } while (!word.compare_exchange_weak(old, wanted, std::memory_order_acq_rel));
  if (from == PageState::kMissing) missing_pages_.fetch_sub(1, std::memory_order_acq_rel);
  return true;
}

uint64_t PageTable::Rewrite(PageRun run, PageState to, bool only_missing) {
  uint64_t left_missing = 0;
  for (uint64_t page = run.first; page < run.end();) {
    uint64_t slot = page % kPagesPerWord;
    uint64_t in_word = std::min(kPagesPerWord - slot, run.end() - page);
    uint64_t low =
        kLowBits & (in_word == kPagesPerWord ? ~uint64_t{0}
                                             : ((uint64_t{1} << (in_word * 2)) - 1) << (slot * 2));
    Word& word = WordOf({run.region, page});
    uint64_t old = word.load(std::memory_order_acquire);
    uint64_t wanted;
    uint64_t missing;
    do {
      missing = MissingBits(old) & low;
      uint64_t chosen = only_missing ? missing : low;
      wanted = (old & ~(chosen * 3)) | (chosen * static_cast<uint64_t>(to));
    } while (!word.compare_exchange_weak(old, wanted, std::memory_order_acq_rel));
    left_missing += static_cast<uint64_t>(std::popcount(missing));
    page += in_word;
  }
  missing_pages_.fetch_sub(left_missing, std::memory_order_acq_rel);
  return left_missing;
}

uint64_t PageTable::ChangeMissing(PageRun run, PageState to) {
  FAULTLINE_CHECK(to != PageState::kMissing);
  return Rewrite(run, to, /*only_missing=*/true);
}

void PageTable::Discard(PageRun run) {
  Rewrite(run, PageState::kDiscarded, /*only_missing=*/false);
}

void PageTable::MakeMissing(PageRun run) {
  // Counted up first, so that nobody sees fewer missing than there are.
  missing_pages_.fetch_add(run.count, std::memory_order_acq_rel);
  Rewrite(run, PageState::kMissing, /*only_missing=*/false);
}

PageRun PageTable::FindMissing(PageRun run) const {
  PageRun found{run.region, run.end(), 0};
  for (uint64_t page = run.first; page < run.end();) {
    uint64_t slot = page % kPagesPerWord;
    uint64_t missing = MissingBits(WordOf({run.region, page}).load(std::memory_order_acquire));
    missing >>= slot * 2;
    uint64_t in_word = std::min(kPagesPerWord - slot, run.end() - page);
    if (found.count == 0) {
      uint64_t skip = missing == 0 ? in_word : static_cast<uint64_t>(std::countr_zero(missing)) / 2;
      if (skip >= in_word) {
        page += in_word;
        continue;
      }
      found.first = page + skip;
      page += skip;
      found.count = 0;
      missing >>= skip * 2;
      in_word -= skip;
    }
    uint64_t gap = ~missing & kLowBits;
    uint64_t length = gap == 0 ? in_word : static_cast<uint64_t>(std::countr_zero(gap)) / 2;
    length = std::min(length, in_word);
    found.count += length;
    page += length;
    if (length < in_word) break;
  }
  return found;
}

uint64_t PageTable::CountPages(PageState state) const {
  uint64_t count = 0;
  for (RegionIndex region = 0; region < layout_.size(); ++region) {
    for (uint64_t page = 0; page < layout_[region].page_count(); ++page) {
      count += Get({region, page}) == state ? 1 : 0;
    }
  }
  return count;
}

}  // namespace faultline
