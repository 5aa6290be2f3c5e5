// The stream of a QEMU that saves its VM -> StreamMemoryEnd, whole and cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "vmm/qemu/stream_memory_end.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  using Found = StreamMemoryEnd::Found;
  FuzzInput input(data, size);
  const size_t piece = size_t{1} + input.U16() % 500;
  const std::span<const std::byte> bytes = std::as_bytes(input.Rest());
  StreamMemoryEnd whole;
  const Found found = whole.Add(bytes);

  StreamMemoryEnd cut;
  Found last = Found::kNotYet;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    const Found now = cut.Add(bytes.subspan(at, std::min(piece, bytes.size() - at)));
    FAULTLINE_CHECK(last == Found::kNotYet || now == last);
    last = now;
  }
  FAULTLINE_CHECK(last == found && cut.bytes_before() == whole.bytes_before());
  FAULTLINE_CHECK(whole.bytes_before() <= bytes.size());
  FAULTLINE_CHECK(whole.Add(bytes) == found || found == Found::kNotYet);
  return 0;
}
