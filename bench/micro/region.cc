#include "micro/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/check.h"

namespace faultline::micro {
namespace {

constexpr uint64_t kWordsPerPage = kPageBytes / sizeof(uint64_t);

// Never zero, and different at every place.
uint64_t PatternWord(uint64_t page, uint64_t word) {
  return (page * kWordsPerPage + word + 1) * 0x9e3779b97f4a7c15u;
}

uint64_t* WordsOf(std::byte* page) { return reinterpret_cast<uint64_t*>(page); }

}  // namespace

absl::StatusOr<std::unique_ptr<Region>> Region::Make(uint64_t pages) {
  FileDescriptor file(memfd_create("faultline-micro", MFD_CLOEXEC));
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

absl::Status Region::WarmUp() {
  const auto bytes = static_cast<off_t>(size_bytes());
  if (fallocate(file_.get(), 0, 0, bytes) < 0 ||
      fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes) < 0) {
    return ErrnoStatus(errno, "take memory for the region and give it back");
  }
  return absl::OkStatus();
}

absl::Status Region::Fill() {
  for (uint64_t index = 0; index < pages_; ++index) {
    uint64_t* words = WordsOf(page(index));
    for (uint64_t word = 0; word < kWordsPerPage; ++word) words[word] = PatternWord(index, word);
  }
  return Map();
}

uint64_t Region::CountWrongPages() const {
  uint64_t wrong = 0;
  for (uint64_t index = 0; index < pages_; ++index) {
    const uint64_t* words = WordsOf(page(index));
    uint64_t differences = 0;
    for (uint64_t word = 0; word < kWordsPerPage; ++word) {
      differences |= words[word] ^ PatternWord(index, word);
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

}  // namespace faultline::micro
