// The memory of a page-state table that another process left -> PageTable. What it takes over
// counts right, and stays right under changes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "pages/page_table.h"

namespace faultline {
namespace {

const std::array<MemoryLayout, 3> kLayouts = {
    MemoryLayout{{"ram", 40 * 4096, 4096}},
    MemoryLayout{{"ram", 33 * 4096, 4096}, {"huge", 2 << 21, 1 << 21}},
    MemoryLayout{{"a", 4096, 4096}, {"b", 64 * 4096, 4096}, {"c", 95 * 4096, 4096}}};
constexpr size_t kHeaderBytes = 4096;
constexpr size_t kOperationsMax = 64;

uint64_t Missing(const PageTable& table, PageRun run) {
  uint64_t count = 0;
  for (uint64_t page = run.first; page < run.end(); ++page) {
    count += table.Get({run.region, page}) == PageState::kMissing ? 1 : 0;
  }
  return count;
}

void CheckFindMissing(const PageTable& table, PageRun run) {
  const PageRun found = table.FindMissing(run);
  FAULTLINE_CHECK(found.region == run.region && found.end() <= run.end());
  FAULTLINE_CHECK(found.first >= run.first);
  FAULTLINE_CHECK(Missing(table, found) == found.count);
  FAULTLINE_CHECK(Missing(table, {run.region, run.first, found.first - run.first}) == 0);
  FAULTLINE_CHECK(found.count > 0 || Missing(table, run) == 0);
  // It is the whole stretch.
  FAULTLINE_CHECK(found.count == 0 || found.end() == run.end() ||
                  table.Get({run.region, found.end()}) != PageState::kMissing);
}

void Operate(PageTable* table, FuzzInput* input) {
  for (size_t i = 0; i < kOperationsMax && !input->empty(); ++i) {
    const uint8_t word = input->U8();
    const RegionIndex region = (word >> 4) % static_cast<RegionIndex>(table->layout().size());
    const uint64_t pages = table->layout()[region].page_count();
    PageRun run{region, input->U8() % pages, 0};
    run.count = input->U8() % (pages - run.first + 1);
    const uint64_t all_before = table->missing_pages();
    const uint64_t before = Missing(*table, run);
    const PageId page{region, run.first};
    switch (word % 4) {
      case 0:
        FAULTLINE_CHECK(table->ChangeMissing(run, PageState::kInstalled) == before);
        FAULTLINE_CHECK(table->missing_pages() == all_before - before);
        break;
      case 1:
        table->Discard(run);
        FAULTLINE_CHECK(Missing(*table, run) == 0);
        break;
      case 2: {
        const bool was_missing = table->Get(page) == PageState::kMissing;
        FAULTLINE_CHECK(table->Change(page, PageState::kMissing, PageState::kAbsent) ==
                        was_missing);
        break;
      }
      default:
        CheckFindMissing(*table, run);
    }
    FAULTLINE_CHECK(table->missing_pages() == table->CountPages(PageState::kMissing));
  }
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  FuzzInput input(data, size);
  const uint8_t word = input.U8();
  const MemoryLayout& layout = kLayouts[word % kLayouts.size()];
  const size_t bytes = PageTable::BytesNeeded(layout);
  std::vector<uint64_t> words(bytes / sizeof(uint64_t));
  const std::span<std::byte> memory = std::as_writable_bytes(std::span(words));
  // A fresh header, or the input's; then states.
  if ((word & 0x40) != 0) {
    PageTable::Format(memory, layout);
  } else {
    const auto header = std::as_bytes(input.Bytes(64));
    std::ranges::copy(header, memory.begin());
  }
  const auto states = std::as_bytes(input.Bytes(std::min<size_t>(bytes - kHeaderBytes, 128)));
  std::ranges::copy(states, memory.begin() + kHeaderBytes);
  const size_t shorter = (word & 0x80) != 0 ? input.U16() % bytes : bytes;
  auto table = PageTable::Open(memory.first(shorter), layout);
  if (!table.ok()) {
    FAULTLINE_CHECK(absl::IsInvalidArgument(table.status()));
    return 0;
  }
  FAULTLINE_CHECK(shorter == bytes);
  FAULTLINE_CHECK((*table)->missing_pages() == (*table)->CountPages(PageState::kMissing));
  Operate(table->get(), &input);
  return 0;
}
