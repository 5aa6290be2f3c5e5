// Packs runs of pages with LZ4, and unpacks them.
#ifndef FAULTLINE_TRANSPORT_TCP_RUN_PACKER_H_
#define FAULTLINE_TRANSPORT_TCP_RUN_PACKER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "transport/tcp/page_buffer.h"

namespace faultline {

// Longer runs (huge pages) go out as they are: the link would run dry while they are packed.
inline constexpr size_t kPackedRunBytesMax = 2 * 1024 * 1024;

// Allocates when it packs for the first time, and when a run is longer than all before. One thread.
class RunPacker {
 public:
  // What `data` (at most kPackedRunBytesMax) packs to, valid until the next call; empty if that
  // saves less than a sixteenth, or if the host has no memory for it.
  std::span<const std::byte> Pack(std::span<const std::byte> data);

 private:
  std::vector<uint64_t> state_;  // LZ4's working memory
  PageBuffer packed_;
};

// Fills all of `out` from one LZ4 block. InvalidArgument names the field of the frame that `packed`
// came with. Any thread.
absl::Status UnpackRun(std::span<const std::byte> packed, std::span<std::byte> out);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_RUN_PACKER_H_
