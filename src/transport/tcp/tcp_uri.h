// tcp://HOST:PORT
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_URI_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_URI_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace faultline {

struct TcpUri {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without its brackets
  uint16_t port = 0;

  // "HOST:PORT", an IPv6 address in brackets.
  std::string host_port() const;
  std::string text() const { return "tcp://" + host_port(); }
  friend bool operator==(const TcpUri&, const TcpUri&) = default;
};

// Port 0 is allowed (any free one, for listening). InvalidArgument names the text and the form.
absl::StatusOr<TcpUri> ParseTcpUri(std::string_view text);

// What is said there cannot leave this host: an address of 127.0.0.0/8, ::1 or "localhost". Other
// names are not looked up and count as not loopback.
bool IsLoopback(const TcpUri& uri);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_URI_H_
