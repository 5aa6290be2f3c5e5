// Which addresses a migration may use.
#ifndef FAULTLINE_ASSEMBLY_TRANSPORT_URI_H_
#define FAULTLINE_ASSEMBLY_TRANSPORT_URI_H_

#include <string>

#include "base/status.h"
#include "transport/tcp/tcp_uri.h"

namespace faultline {

// The TCP address in `uri`. InvalidArgument for another scheme, and for plain TCP beyond loopback
// unless `insecure`: the guest's memory would cross the network readable and unauthenticated.
absl::StatusOr<TcpUri> CheckedTcpUri(const std::string& uri, bool insecure);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_TRANSPORT_URI_H_
