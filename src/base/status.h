// Helpers around absl::Status. An error message says what was tried, on what, and what mends it.
#ifndef FAULTLINE_BASE_STATUS_H_
#define FAULTLINE_BASE_STATUS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace faultline {

// A status for a failed system call: `what` ("open /dev/userfaultfd"), then the error's name and
// text. The code follows errno (EACCES, EPERM -> PermissionDenied; ENOENT -> NotFound; ENOSPC,
// ENOMEM -> ResourceExhausted; ...), Internal for one that has no counterpart.
absl::Status ErrnoStatus(int error_number, std::string_view what);

// `status` with `prefix` and ": " before its message; its code stays. Ok stays ok.
absl::Status Annotate(const absl::Status& status, std::string_view prefix);

// The message as a std::string (absl's own string_view does not mix with std's here).
std::string MessageOf(const absl::Status& status);

}  // namespace faultline

#define FAULTLINE_CONCAT_INNER(a, b) a##b
#define FAULTLINE_CONCAT(a, b) FAULTLINE_CONCAT_INNER(a, b)

// Returns the status of `expression` from the calling function unless it is ok.
#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

// Moves the value of a StatusOr into `lhs` or returns its error from the calling function.
#define ASSIGN_OR_RETURN(lhs, expression) \
  ASSIGN_OR_RETURN_INNER(FAULTLINE_CONCAT(status_or_, __LINE__), lhs, expression)
#define ASSIGN_OR_RETURN_INNER(name, lhs, expression) \
  auto name = (expression);                           \
  if (!name.ok()) return name.status();               \
  lhs = std::move(name).value()

#endif  // FAULTLINE_BASE_STATUS_H_
