#include "common/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/check.h"

namespace faultline::bench {

absl::StatusOr<std::unique_ptr<Region>> Region::Make(uint64_t pages) {
  FileDescriptor file(memfd_create("faultline-bench", MFD_CLOEXEC));
  if (!file.valid()) return ErrnoStatus(errno, "memfd_create for the region");
  if (ftruncate(file.get(), static_cast<off_t>(pages * kPageBytes)) < 0) {
    return ErrnoStatus(errno, "size the region's memfd");
  }
  std::unique_ptr<Region> region(new Region(std::move(file), pages));
  RETURN_IF_ERROR(region->Map());
  return region;
}

Region::~Region() {
  if (data_ != nullptr) munmap(data_, size_bytes());
}

absl::Status Region::Map() {
  if (data_ != nullptr) munmap(std::exchange(data_, nullptr), size_bytes());
  void* data = mmap(nullptr, size_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (data == MAP_FAILED) return ErrnoStatus(errno, "map the region");
  data_ = static_cast<std::byte*>(data);
  return absl::OkStatus();
}

absl::Status Region::WarmUp(uint64_t count) {
  const auto bytes = static_cast<off_t>(count * kPageBytes);
  if (fallocate(file_.get(), 0, 0, bytes) < 0 ||
      fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes) < 0) {
    return ErrnoStatus(errno, "take memory for the region and give it back");
  }
  return absl::OkStatus();
}

absl::Status Region::Fill(uint64_t count, uint64_t word_repeats) {
  for (uint64_t index = 0; index < count; ++index) {
    for (uint64_t word = 0; word < kWordsPerPage; ++word) {
      words(index)[word] = PatternWord(index, word / word_repeats);
    }
  }
  return Map();
}

uint64_t Region::CountWrongPages() const {
  uint64_t wrong = 0;
  for (uint64_t index = 0; index < pages_; ++index) {
    uint64_t differences = 0;
    for (uint64_t word = 0; word < kWordsPerPage; ++word) {
      differences |= words(index)[word] ^ PatternWord(index, word);
    }
    if (differences != 0) ++wrong;
  }
  return wrong;
}

bool Region::IsMissing(uint64_t index) const {
  unsigned char resident = 0;
  FAULTLINE_CHECK(mincore(page(index), kPageBytes, &resident) == 0);
  return (resident & 1) == 0;
}

}  // namespace faultline::bench
