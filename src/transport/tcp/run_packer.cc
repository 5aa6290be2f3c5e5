#include "transport/tcp/run_packer.h"

#include <fmt/format.h>
#include <lz4.h>

#include <limits>

#include "base/check.h"

namespace faultline {
namespace {

constexpr int kAcceleration = 1;  // LZ4's default

const char* Chars(const std::byte* bytes) { return reinterpret_cast<const char*>(bytes); }
char* Chars(std::byte* bytes) { return reinterpret_cast<char*>(bytes); }

}  // namespace

std::span<const std::byte> RunPacker::Pack(std::span<const std::byte> data) {
  FAULTLINE_CHECK(data.size() <= kPackedRunBytesMax);
  const size_t room = data.size() - data.size() / 16;
  if (!packed_.Reserve(room)) return {};
  if (state_.empty()) {
    state_.resize((static_cast<size_t>(LZ4_sizeofState()) + sizeof(uint64_t) - 1) /
                  sizeof(uint64_t));
  }
  int bytes = LZ4_compress_fast_extState(state_.data(), Chars(data.data()), Chars(packed_.data()),
                                         static_cast<int>(data.size()), static_cast<int>(room),
                                         kAcceleration);
  return {packed_.data(), static_cast<size_t>(bytes)};
}

absl::Status UnpackRun(std::span<const std::byte> packed, std::span<std::byte> out) {
  constexpr size_t kBytesMax = std::numeric_limits<int>::max();
  if (out.size() > kBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'pages' is one page of {} bytes, which is "
                    "too long to be packed",
                    out.size()));
  }
  FAULTLINE_CHECK(packed.size() < out.size());
  int bytes = LZ4_decompress_safe(Chars(packed.data()), Chars(out.data()),
                                  static_cast<int>(packed.size()), static_cast<int>(out.size()));
  if (bytes == static_cast<int>(out.size())) return absl::OkStatus();
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'packed bytes' brought {} bytes that are "
                    "no LZ4 block, or one of more than {} bytes",
                    packed.size(), out.size()));
  }
  return absl::InvalidArgumentError(
      fmt::format("bad page frame from the peer: field 'packed bytes' brought {} bytes that unpack "
                  "to {}, the run has {}",
                  packed.size(), bytes, out.size()));
}

}  // namespace faultline
