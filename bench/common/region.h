// The guest's memory of a run: a memfd, mapped shared, with a known pattern on the source.
#ifndef FAULTLINE_BENCH_COMMON_REGION_H_
#define FAULTLINE_BENCH_COMMON_REGION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline::bench {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kWordsPerPage = kPageBytes / sizeof(uint64_t);

// What the source's memory holds in 64-bit word `word` of `page`: never zero, and different at
// every place.
constexpr uint64_t PatternWord(uint64_t page, uint64_t word) {
  return (page * kWordsPerPage + word + 1) * 0x9e3779b97f4a7c15u;
}

// Thread safety: const methods from any thread.
class Region {
 public:
  // An empty region.
  static absl::StatusOr<std::unique_ptr<Region>> Make(uint64_t pages);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // Takes memory for the first `count` pages and gives it back. A host that lends this machine its
  // memory may have taken free pages back; to get them again costs ten times what is measured here.
  absl::Status WarmUp(uint64_t count);
  // Writes the pattern of the first `count` pages, each word of it `word_repeats` times in a row,
  // then maps the file afresh: whoever sends from a mapping has its page tables to fill, as a mover
  // beside a hypervisor has.
  absl::Status Fill(uint64_t count, uint64_t word_repeats = 1);
  // Pages that do not hold the source's pattern. Waits for no page: nobody may be missing any more.
  uint64_t CountWrongPages() const;
  // The kernel's word: a touch of `page` would fault for want of data.
  bool IsMissing(uint64_t page) const;

  int file() const { return file_.get(); }
  std::byte* data() const { return data_; }
  uint64_t pages() const { return pages_; }
  uint64_t size_bytes() const { return pages_ * kPageBytes; }
  std::byte* page(uint64_t index) const { return data_ + index * kPageBytes; }
  uint64_t* words(uint64_t index) const { return reinterpret_cast<uint64_t*>(page(index)); }

 private:
  Region(FileDescriptor file, uint64_t pages) : file_(std::move(file)), pages_(pages) {}
  absl::Status Map();

  const FileDescriptor file_;
  const uint64_t pages_;
  std::byte* data_ = nullptr;
};

}  // namespace faultline::bench

#endif  // FAULTLINE_BENCH_COMMON_REGION_H_
