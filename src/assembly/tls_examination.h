// What certificates this host has, for `faultline doctor`.
#ifndef FAULTLINE_ASSEMBLY_TLS_EXAMINATION_H_
#define FAULTLINE_ASSEMBLY_TLS_EXAMINATION_H_

#include <string>

#include "base/status.h"

namespace faultline {

struct TlsFacts {
  // The folder that was looked at, or why there is none (NotFound).
  absl::StatusOr<std::string> directory = absl::NotFoundError("not looked for");
  // Until when this host's certificate for that side is valid ("2027-03-01"), or what is wrong with
  // it; NotFound: it has none.
  absl::StatusOr<std::string> as_source = absl::NotFoundError("not looked for");
  absl::StatusOr<std::string> as_destination = absl::NotFoundError("not looked for");
};

// Looks into `directory`, or, if that is empty, where migrations would look.
TlsFacts ExamineTls(const std::string& directory);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_TLS_EXAMINATION_H_
