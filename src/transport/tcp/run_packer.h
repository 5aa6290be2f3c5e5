// Packs runs of pages, and unpacks them.
#ifndef FAULTLINE_TRANSPORT_TCP_RUN_PACKER_H_
#define FAULTLINE_TRANSPORT_TCP_RUN_PACKER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "protocol/messages.h"
#include "transport/tcp/page_buffer.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace faultline {

// Longer runs (huge pages) go out as they are: the link would run dry while they are packed.
inline constexpr size_t kPackedRunBytesMax = 2 * 1024 * 1024;

// Allocates when it packs by an algorithm for the first time, and when a run is longer than all
// before. One thread.
class RunPacker {
 public:
  // What `data` (at most kPackedRunBytesMax) packs to, valid until the next call; empty if that
  // saves less than a sixteenth, or if the host has no memory for it.
  std::span<const std::byte> Pack(PackAlgorithm algorithm, std::span<const std::byte> data);

 private:
  size_t PackLz4(std::span<const std::byte> data, size_t room);
  size_t PackZstd(std::span<const std::byte> data, size_t room);

  struct FreeZstd {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  std::vector<uint64_t> lz4_state_;
  std::unique_ptr<ZSTD_CCtx_s, FreeZstd> zstd_;
  PageBuffer packed_;
};

// Allocates when it unpacks by an algorithm for the first time. One thread.
class RunUnpacker {
 public:
  // Fills all of `out` from what one frame brought. InvalidArgument names the field of the frame.
  absl::Status Unpack(PackAlgorithm algorithm, std::span<const std::byte> packed,
                      std::span<std::byte> out);

 private:
  struct FreeZstd {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_DCtx_s, FreeZstd> zstd_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_RUN_PACKER_H_
