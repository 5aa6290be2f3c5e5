#include "pages/page_digest.h"

#include <xxh_x86dispatch.h>

#include <array>

#include "base/check.h"

namespace faultline {
namespace {

// Longer than what the library does without looking for the processor's vector units.
constexpr size_t kLongBytes = 1024;

// The library finds out what the processor has when it is first called, without a lock: here, so
// that no two threads do it at once.
void PrepareLibrary() {
  static const uint64_t kPrepared = [] {
    const std::array<std::byte, kLongBytes> bytes{};
    return XXH3_64bits(bytes.data(), bytes.size());
  }();
  (void)kPrepared;
}

uint64_t WithPlace(PageRun run, uint64_t digest_of_bytes) {
  const std::array<uint64_t, 4> words = {run.region, run.first, run.count, digest_of_bytes};
  return XXH3_64bits(words.data(), sizeof(words));
}

}  // namespace

uint64_t DigestOfRun(PageRun run, std::span<const std::byte> bytes) {
  PrepareLibrary();
  return WithPlace(run, XXH3_64bits(bytes.data(), bytes.size()));
}

void RunDigester::FreeState::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

RunDigester::RunDigester() : state_(XXH3_createState()) {
  FAULTLINE_CHECK(state_ != nullptr);
  PrepareLibrary();
  Begin();
}

void RunDigester::Begin() {
  XXH3_64bits_reset(state_.get());
  bytes_ = 0;
}

void RunDigester::Add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
  bytes_ += bytes.size();
}

uint64_t RunDigester::End(PageRun run) const {
  return WithPlace(run, XXH3_64bits_digest(state_.get()));
}

uint32_t DigestOfRequest(PageId page) {
  const std::array<uint64_t, 2> words = {page.region, page.index};
  return static_cast<uint32_t>(XXH3_64bits(words.data(), sizeof(words)));
}

uint64_t DigestWithRange(uint64_t digest, RegionIndex region, PageRange range) {
  const std::array<uint64_t, 4> words = {digest, region, range.first, range.end};
  return XXH3_64bits(words.data(), sizeof(words));
}

}  // namespace faultline
