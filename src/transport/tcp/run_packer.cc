#include "transport/tcp/run_packer.h"

#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <limits>

#include "base/check.h"

namespace faultline {
namespace {

constexpr int kLz4Acceleration = 1;  // the library's default
// Higher levels take twice the time and more for a few percent.
constexpr int kZstdLevel = 1;

const char* Chars(const std::byte* bytes) { return reinterpret_cast<const char*>(bytes); }
char* Chars(std::byte* bytes) { return reinterpret_cast<char*>(bytes); }

absl::Status BadPackedBytes(const std::string& what) {
  return absl::InvalidArgumentError(
      fmt::format("bad page frame from the peer: field 'packed bytes' brought {}", what));
}

}  // namespace

void RunPacker::FreeZstd::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }
void RunUnpacker::FreeZstd::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

std::span<const std::byte> RunPacker::Pack(PackAlgorithm algorithm,
                                           std::span<const std::byte> data) {
  FAULTLINE_CHECK(data.size() <= kPackedRunBytesMax && algorithm != PackAlgorithm::kNone);
  const size_t room = data.size() - data.size() / 16;
  if (!packed_.Reserve(room)) return {};
  const size_t bytes =
      algorithm == PackAlgorithm::kLz4 ? PackLz4(data, room) : PackZstd(data, room);
  return {packed_.data(), bytes};
}

// Both return 0 for what does not fit.
size_t RunPacker::PackLz4(std::span<const std::byte> data, size_t room) {
  if (lz4_state_.empty()) {
    lz4_state_.resize((static_cast<size_t>(LZ4_sizeofState()) + sizeof(uint64_t) - 1) /
                      sizeof(uint64_t));
  }
  return static_cast<size_t>(LZ4_compress_fast_extState(
      lz4_state_.data(), Chars(data.data()), Chars(packed_.data()), static_cast<int>(data.size()),
      static_cast<int>(room), kLz4Acceleration));
}

size_t RunPacker::PackZstd(std::span<const std::byte> data, size_t room) {
  if (zstd_ == nullptr) zstd_.reset(ZSTD_createCCtx());
  if (zstd_ == nullptr) return 0;
  const size_t bytes =
      ZSTD_compressCCtx(zstd_.get(), packed_.data(), room, data.data(), data.size(), kZstdLevel);
  return ZSTD_isError(bytes) != 0 ? 0 : bytes;
}

absl::Status RunUnpacker::Unpack(PackAlgorithm algorithm, std::span<const std::byte> packed,
                                 std::span<std::byte> out) {
  constexpr size_t kUnpackedBytesMax = std::numeric_limits<int>::max();
  if (out.size() > kUnpackedBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("bad page frame from the peer: field 'pages' is one page of {} bytes, which is "
                    "too long to be packed",
                    out.size()));
  }
  FAULTLINE_CHECK(packed.size() < out.size() && algorithm != PackAlgorithm::kNone);
  size_t bytes = 0;
  bool bad = false;
  if (algorithm == PackAlgorithm::kLz4) {
    const int unpacked =
        LZ4_decompress_safe(Chars(packed.data()), Chars(out.data()),
                            static_cast<int>(packed.size()), static_cast<int>(out.size()));
    bad = unpacked < 0;
    bytes = static_cast<size_t>(unpacked);
  } else {
    if (zstd_ == nullptr) zstd_.reset(ZSTD_createDCtx());
    if (zstd_ == nullptr) return absl::ResourceExhaustedError("no memory to unpack pages");
    bytes = ZSTD_decompressDCtx(zstd_.get(), out.data(), out.size(), packed.data(), packed.size());
    bad = ZSTD_isError(bytes) != 0;
  }
  if (bad) {
    return BadPackedBytes(fmt::format(
        "{} bytes that are no {}, or one of more than {} bytes", packed.size(),
        algorithm == PackAlgorithm::kLz4 ? "LZ4 block" : "Zstandard frame", out.size()));
  }
  if (bytes != out.size()) {
    return BadPackedBytes(fmt::format("{} bytes that unpack to {}, the run has {}", packed.size(),
                                      bytes, out.size()));
  }
  return absl::OkStatus();
}

}  // namespace faultline
