// How much memory this process may pin.
#ifndef FAULTLINE_TRANSPORT_RDMA_MEMORY_LOCK_LIMIT_H_
#define FAULTLINE_TRANSPORT_RDMA_MEMORY_LOCK_LIMIT_H_

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace faultline {

// Raises RLIMIT_MEMLOCK as far as this process may, and takes CAP_IPC_LOCK, which permits to pin
// anything, into effect where this thread may: threads that it starts have it then. Before rights
// are given up.
void RaiseMemoryLockLimit();

// FailedPrecondition if `bytes` are more than this process may pin (CAP_IPC_LOCK permits any): the
// sentence says how the limit is raised.
absl::Status CheckMemoryLockLimit(uint64_t bytes, std::string_view what);

// Why registering `bytes` failed; too low a limit is the usual reason.
absl::Status RegistrationError(int error_number, uint64_t bytes, std::string_view what);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_MEMORY_LOCK_LIMIT_H_
