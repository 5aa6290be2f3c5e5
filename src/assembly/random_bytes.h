// Unguessable bytes for tokens.
#ifndef FAULTLINE_ASSEMBLY_RANDOM_BYTES_H_
#define FAULTLINE_ASSEMBLY_RANDOM_BYTES_H_

#include <sys/random.h>

#include <cerrno>

#include "base/status.h"

namespace faultline {

// Fills `bytes` from the kernel's generator.
template <typename ByteArray>
absl::Status FillRandom(ByteArray* bytes) {
  if (getrandom(bytes->data(), bytes->size(), 0) != static_cast<ssize_t>(bytes->size())) {
    return ErrnoStatus(errno, "get random bytes from the kernel");
  }
  return absl::OkStatus();
}

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_RANDOM_BYTES_H_
