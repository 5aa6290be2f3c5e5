// How far one send or receive got.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_TRANSFER_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_TRANSFER_H_

#include <cstddef>

#include "base/status.h"

namespace faultline {

// Ok and fewer bytes than asked for: the connection takes or has no more now.
struct Transfer {
  size_t bytes = 0;
  absl::Status status;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_TRANSFER_H_
