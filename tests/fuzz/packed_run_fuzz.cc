// The bytes of a packed run -> RunUnpacker; and what RunPacker packs comes back.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "pages/memory_layout.h"
#include "transport/tcp/run_packer.h"

namespace faultline {
namespace {

void CheckUnpack(RunUnpacker* unpacker, PackAlgorithm algorithm, std::span<const std::byte> packed,
                 size_t run_bytes) {
  // Whatever was in the buffer before must not show in a run that is taken.
  std::vector<std::byte> first(run_bytes, std::byte{0x00});
  std::vector<std::byte> second(run_bytes, std::byte{0xff});
  const absl::Status one = unpacker->Unpack(algorithm, packed, first);
  const absl::Status two = unpacker->Unpack(algorithm, packed, second);
  FAULTLINE_CHECK(one == two);
  FAULTLINE_CHECK(!one.ok() || first == second);
  FAULTLINE_CHECK(one.ok() || absl::IsInvalidArgument(one));
  FAULTLINE_CHECK(one.ok() || MessageOf(one).find("field 'packed bytes'") != std::string::npos);
}

// A run of whole pages that begins with `bytes` and goes on like them.
std::vector<std::byte> RunLike(std::span<const std::byte> bytes) {
  std::vector<std::byte> run((bytes.size() / kPageBytesMin + 1) * kPageBytesMin);
  for (size_t i = 0; i < run.size(); ++i) run[i] = bytes[i % bytes.size()];
  return run;
}

void CheckRoundTrip(RunPacker* packer, RunUnpacker* unpacker, PackAlgorithm algorithm,
                    std::span<const std::byte> data) {
  const std::span<const std::byte> packed = packer->Pack(algorithm, data);
  if (packed.empty()) return;
  FAULTLINE_CHECK(packed.size() <= data.size() - data.size() / 16);
  std::vector<std::byte> out(data.size());
  FAULTLINE_CHECK(unpacker->Unpack(algorithm, packed, out).ok());
  FAULTLINE_CHECK(std::ranges::equal(out, data));
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  FuzzInput input(data, size);
  const PackAlgorithm algorithm = input.U8() % 2 == 0 ? PackAlgorithm::kLz4 : PackAlgorithm::kZstd;
  const size_t run_bytes = size_t{1} + input.U16();
  const std::span<const std::byte> bytes = std::as_bytes(input.Rest());
  RunPacker packer;
  RunUnpacker unpacker;
  if (bytes.size() < run_bytes) CheckUnpack(&unpacker, algorithm, bytes, run_bytes);
  if (!bytes.empty()) CheckRoundTrip(&packer, &unpacker, algorithm, RunLike(bytes));
  return 0;
}
