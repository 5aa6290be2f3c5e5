// The page-state table: two bits a page, in memory that outlives the engine (a memfd that the hook
// keeps open), so that a new engine knows what a hole in the RAM file means.
//
// Thread safety: all methods may be called from any thread. Invariants: a page leaves kMissing once
// and never comes back, but by MakeMissing while no VM runs on it; kInstalled means that its bytes
// were whole in guest memory at that moment.
#ifndef FAULTLINE_PAGES_PAGE_TABLE_H_
#define FAULTLINE_PAGES_PAGE_TABLE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "pages/page_types.h"

namespace faultline {

// Wire and memory values: never renumbered. 0 is what a fresh memfd holds.
enum class PageState : uint8_t {
  kMissing = 0,    // still on the source only
  kInstalled = 1,  // has been whole in guest memory; a hole there was punched by the guest: zero
  kDiscarded = 2,  // given up by the guest while missing or present: zero
  kAbsent = 3,     // never allocated on the source, or all zero there: zero
};

class PageTable {
 public:
  // Bytes of memory that a table of `layout` takes.
  static size_t BytesNeeded(const MemoryLayout& layout);
  // Makes a fresh table (every page kMissing) in `memory`, which must be zero-filled, page-aligned,
  // BytesNeeded(layout) long and outlive the table.
  static std::unique_ptr<PageTable> Format(std::span<std::byte> memory, const MemoryLayout& layout);
  // Takes a table over that another process made. InvalidArgument names what does not fit.
  static absl::StatusOr<std::unique_ptr<PageTable>> Open(std::span<std::byte> memory,
                                                         const MemoryLayout& layout);

  PageState Get(PageId page) const;
  // Moves one page from `from` to `to`; false if it was not in `from`.
  bool Change(PageId page, PageState from, PageState to);
  // Moves every page of `run` that is kMissing to `to`; returns how many.
  uint64_t ChangeMissing(PageRun run, PageState to);
  // Sets every page of `run` to kDiscarded, whatever it was.
  void Discard(PageRun run);

  // Sets every page of `run` to kMissing, whatever it was: pre-copied ones that are old. Only
  // before the VM runs.
  void MakeMissing(PageRun run);

  // The first stretch of kMissing pages in `run` (empty if none). A snapshot: other threads go on.
  PageRun FindMissing(PageRun run) const;

  uint64_t missing_pages() const { return missing_pages_.load(std::memory_order_acquire); }
  const MemoryLayout& layout() const { return layout_; }
  uint64_t CountPages(PageState state) const;

 private:
  using Word = std::atomic<uint64_t>;
  static constexpr uint64_t kPagesPerWord = 32;

  PageTable(std::span<std::byte> memory, const MemoryLayout& layout);
  Word& WordOf(PageId page) const { return regions_[page.region][page.index / kPagesPerWord]; }
  // Sets the pages of `run` to `to`, only those missing if `only_missing`. Returns how many left
  // kMissing.
  uint64_t Rewrite(PageRun run, PageState to, bool only_missing);

  const MemoryLayout layout_;
  std::vector<Word*> regions_;  // the first word of each region
  std::atomic<uint64_t> missing_pages_{0};
};

}  // namespace faultline

#endif  // FAULTLINE_PAGES_PAGE_TABLE_H_
