#include "pages/page_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace faultline {
namespace {

class Memory {
 public:
  explicit Memory(const MemoryLayout& layout)
      : words_(PageTable::BytesNeeded(layout) / sizeof(uint64_t)) {}
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(words_)); }

 private:
  std::vector<uint64_t> words_;
};

MemoryLayout TwoRegions(uint64_t pages0, uint64_t pages1) {
  return {{"ram0", pages0 * 4096, 4096}, {"ram1", pages1 * 4096, 4096}};
}

TEST(PageTable, FreshTableMissesAll) {
  MemoryLayout layout = TwoRegions(33, 1);
  Memory memory(layout);
  auto table = PageTable::Format(memory.bytes(), layout);
  EXPECT_EQ(table->missing_pages(), 34u);
  EXPECT_EQ(table->CountPages(PageState::kMissing), 34u);
  EXPECT_EQ(table->FindMissing({0, 0, 33}), (PageRun{0, 0, 33}));
  EXPECT_EQ(table->FindMissing({1, 0, 1}), (PageRun{1, 0, 1}));
}

TEST(PageTable, ChangeOnlyFromTheStateNamed) {
  MemoryLayout layout = TwoRegions(64, 64);
  Memory memory(layout);
  auto table = PageTable::Format(memory.bytes(), layout);
  EXPECT_TRUE(table->Change({0, 31}, PageState::kMissing, PageState::kInstalled));
  EXPECT_FALSE(table->Change({0, 31}, PageState::kMissing, PageState::kAbsent));
  EXPECT_EQ(table->Get({0, 31}), PageState::kInstalled);
  EXPECT_EQ(table->Get({0, 30}), PageState::kMissing);
  EXPECT_EQ(table->Get({0, 32}), PageState::kMissing);
  EXPECT_EQ(table->missing_pages(), 127u);
  EXPECT_TRUE(table->Change({0, 31}, PageState::kInstalled, PageState::kDiscarded));
  EXPECT_EQ(table->missing_pages(), 127u);
}

TEST(PageTable, DiscardIsForAllStates) {
  MemoryLayout layout = TwoRegions(100, 1);
  Memory memory(layout);
  auto table = PageTable::Format(memory.bytes(), layout);
  table->ChangeMissing({0, 10, 20}, PageState::kInstalled);
  table->ChangeMissing({0, 40, 5}, PageState::kAbsent);
  table->Discard({0, 20, 40});
  EXPECT_EQ(table->CountPages(PageState::kInstalled), 10u);
  EXPECT_EQ(table->CountPages(PageState::kDiscarded), 40u);
  EXPECT_EQ(table->CountPages(PageState::kAbsent), 0u);
  EXPECT_EQ(table->missing_pages(), 51u);
}

// The table beside a plain array of states.
class Model {
 public:
  explicit Model(uint64_t pages) : states_(pages) {}

  uint64_t ChangeMissing(PageRun run, PageState to) {
    uint64_t changed = 0;
    for (uint64_t page = run.first; page < run.end(); ++page) {
      if (states_[page] != PageState::kMissing) continue;
      states_[page] = to;
      ++changed;
    }
    return changed;
  }
  void Discard(PageRun run) {
    for (uint64_t page = run.first; page < run.end(); ++page) {
      states_[page] = PageState::kDiscarded;
    }
  }
  PageRun FindMissing(PageRun run) const {
    uint64_t first = run.first;
    while (first < run.end() && states_[first] != PageState::kMissing) ++first;
    uint64_t end = first;
    while (end < run.end() && states_[end] == PageState::kMissing) ++end;
    return {run.region, first, end - first};
  }
  PageState at(uint64_t page) const { return states_[page]; }

 private:
  std::vector<PageState> states_;
};

TEST(PageTable, AgreesWithAModelUnderRandomRuns) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    uint64_t pages = 1 + random() % 300;
    MemoryLayout layout = TwoRegions(7, pages);
    Memory memory(layout);
    auto table = PageTable::Format(memory.bytes(), layout);
    Model model(pages);
    for (int step = 0; step < 300; ++step) {
      uint64_t first = random() % pages;
      PageRun run{1, first, random() % (pages - first + 1)};
      switch (random() % 4) {
        case 0: {
          PageState to = random() % 2 == 0 ? PageState::kInstalled : PageState::kAbsent;
          ASSERT_EQ(table->ChangeMissing(run, to), model.ChangeMissing(run, to));
          break;
        }
        case 1:
          if (random() % 8 == 0) {
            run.count = std::min<uint64_t>(run.count, 3);
            table->Discard(run);
            model.Discard(run);
          }
          break;
        default: {
          PageRun found = table->FindMissing(run);
          PageRun wanted = model.FindMissing(run);
          ASSERT_EQ(found.count, wanted.count);
          ASSERT_TRUE(wanted.empty() || found == wanted);
        }
      }
    }
    for (uint64_t page = 0; page < pages; ++page) ASSERT_EQ(table->Get({1, page}), model.at(page));
    EXPECT_EQ(table->missing_pages(), table->CountPages(PageState::kMissing));
    // The neighbour in the same memory is untouched.
    EXPECT_EQ(table->FindMissing({0, 0, 7}), (PageRun{0, 0, 7}));
  }
}

TEST(PageTable, EachPageLeavesMissingOnceUnderThreads) {
  constexpr uint64_t kPages = 4096;
  MemoryLayout layout = TwoRegions(kPages, 1);
  Memory memory(layout);
  auto table = PageTable::Format(memory.bytes(), layout);
  std::atomic<uint64_t> won{0};
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (uint64_t i = 0; i < kPages; ++i) {
        // Neighbours share words; runs cross them.
        uint64_t page = random() % (kPages - 40);
        uint64_t changed =
            random() % 2 == 0
                ? table->ChangeMissing({0, page, random() % 40}, PageState::kInstalled)
                : (table->Change({0, page}, PageState::kMissing, PageState::kAbsent) ? 1 : 0);
        won.fetch_add(changed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table->missing_pages(), kPages + 1 - won);
  EXPECT_EQ(table->CountPages(PageState::kMissing), kPages + 1 - won);
}

TEST(PageTable, PreCopiedPagesCanBeMissingAgain) {
  MemoryLayout layout = TwoRegions(70, 3);
  Memory memory(layout);
  auto table = PageTable::Format(memory.bytes(), layout);
  table->ChangeMissing({0, 0, 70}, PageState::kInstalled);
  table->ChangeMissing({1, 0, 2}, PageState::kAbsent);
  table->MakeMissing({0, 30, 5});
  table->MakeMissing({0, 33, 4});
  table->MakeMissing({1, 0, 3});
  EXPECT_EQ(table->missing_pages(), 7u + 3u);
  EXPECT_EQ(table->CountPages(PageState::kMissing), 10u);
  EXPECT_EQ(table->FindMissing({0, 0, 70}), (PageRun{0, 30, 7}));
  EXPECT_EQ(table->Get({0, 29}), PageState::kInstalled);
  EXPECT_EQ(table->Get({0, 37}), PageState::kInstalled);
  EXPECT_EQ(table->ChangeMissing({0, 0, 70}, PageState::kInstalled), 7u);
}

TEST(PageTable, OpenTakesOverWhatAnotherWrote) {
  MemoryLayout layout = TwoRegions(70, 3);
  Memory memory(layout);
  auto first = PageTable::Format(memory.bytes(), layout);
  first->ChangeMissing({0, 5, 60}, PageState::kInstalled);
  auto second = PageTable::Open(memory.bytes(), layout);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ((*second)->missing_pages(), 13u);
  EXPECT_EQ((*second)->Get({0, 64}), PageState::kInstalled);
  EXPECT_EQ((*second)->Get({0, 65}), PageState::kMissing);
}

TEST(PageTable, OpenRefusesWhatIsNotItsOwn) {
  MemoryLayout layout = TwoRegions(70, 3);
  Memory memory(layout);
  EXPECT_THAT(MessageOf(PageTable::Open(memory.bytes(), layout).status()),
              testing::HasSubstr("header"));
  auto table = PageTable::Format(memory.bytes(), layout);
  EXPECT_THAT(MessageOf(PageTable::Open(memory.bytes().first(4096), layout).status()),
              testing::HasSubstr("4096 bytes"));
  EXPECT_THAT(MessageOf(PageTable::Open(memory.bytes(), TwoRegions(70, 4)).status()),
              testing::AllOf(testing::HasSubstr("'ram1'"), testing::HasSubstr("3"),
                             testing::HasSubstr("4")));
  MemoryLayout one = {layout[0]};
  EXPECT_FALSE(PageTable::Open(memory.bytes(), one).ok());
}

}  // namespace
}  // namespace faultline
