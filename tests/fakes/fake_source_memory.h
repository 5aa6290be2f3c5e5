// A source VM's memory made of byte arrays.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_SOURCE_MEMORY_H_
#define FAULTLINE_TESTS_FAKES_FAKE_SOURCE_MEMORY_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "seams/source_memory.h"

namespace faultline {

// The test fills it while nobody reads it.
class FakeSourceMemory : public SourceMemory {
 public:
  explicit FakeSourceMemory(const MemoryLayout& layout) : layout_(layout), map_(layout.size()) {
    for (const RegionLayout& region : layout_) bytes_.emplace_back(region.size_bytes);
  }

  // Makes the page one that holds data, each byte `value`.
  void Fill(PageId page, std::byte value) {
    map_[page.region].Add(page.index, page.index + 1);
    const std::span<std::byte> bytes = Bytes({page.region, page.index, 1});
    std::memset(bytes.data(), std::to_integer<int>(value), bytes.size());
  }
  // One aligned word; writing makes the page one that holds data.
  uint64_t ReadWord(PageId page, uint64_t word) const {
    uint64_t value = 0;
    std::memcpy(&value, bytes_[page.region].data() + OffsetOf(page, word), sizeof(value));
    return value;
  }
  void WriteWord(PageId page, uint64_t word, uint64_t value) {
    map_[page.region].Add(page.index, page.index + 1);
    std::memcpy(bytes_[page.region].data() + OffsetOf(page, word), &value, sizeof(value));
  }
  // Takes it out again: a hole that reads zero.
  void Punch(PageId page) {
    Fill(page, std::byte{0});
    map_[page.region].Remove(page.index, page.index + 1);
  }
  // The next ReadAllocationMap fails with it.
  void FailWith(absl::Status status) { failure_ = std::move(status); }

  const MemoryLayout& layout() const override { return layout_; }
  absl::StatusOr<AllocationMap> ReadAllocationMap() override {
    if (!failure_.ok()) return failure_;
    return map_;
  }
  absl::Status Read(RegionIndex region, uint64_t offset_bytes,
                    std::span<std::byte> out) const override {
    std::span<const std::byte> from = std::span(bytes_[region]).subspan(offset_bytes, out.size());
    std::copy(from.begin(), from.end(), out.begin());
    return absl::OkStatus();
  }

 private:
  uint64_t OffsetOf(PageId page, uint64_t word) const {
    return page.index * layout_[page.region].page_size_bytes + word * sizeof(uint64_t);
  }
  std::span<std::byte> Bytes(PageRun run) {
    uint64_t page_bytes = layout_[run.region].page_size_bytes;
    return std::span(bytes_[run.region]).subspan(run.first * page_bytes, run.count * page_bytes);
  }

  const MemoryLayout layout_;
  std::vector<std::vector<std::byte>> bytes_;
  AllocationMap map_;
  absl::Status failure_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_SOURCE_MEMORY_H_
