#include "transport/tcp/tcp_uri.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <charconv>

namespace faultline {
namespace {

absl::Status BadUri(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format(
      "bad address '{}': {}; write tcp://HOST:PORT, for example tcp://192.0.2.7:4444 or "
      "tcp://[2001:db8::7]:4444",
      text, why));
}

bool IsIpv6(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &address) == 1;
}

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || c == '_';
}

}  // namespace

std::string TcpUri::host_port() const {
  bool brackets = host.find(':') != std::string::npos;
  return brackets ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

absl::StatusOr<TcpUri> ParseTcpUri(std::string_view text) {
  constexpr std::string_view kScheme = "tcp://";
  if (text.substr(0, kScheme.size()) != kScheme) {
    return BadUri(text, "it does not begin with tcp://");
  }
  std::string_view rest = text.substr(kScheme.size());
  size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || rest.find(']', colon) != std::string_view::npos) {
    return BadUri(text, "it has no port");
  }
  std::string_view host = rest.substr(0, colon);
  std::string_view port = rest.substr(colon + 1);
  TcpUri uri;
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), uri.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size()) {
    return BadUri(text, fmt::format("'{}' is no port (0 to 65535)", port));
  }
  if (host.empty()) return BadUri(text, "it has no host");
  if (host.front() == '[') {
    if (host.back() != ']') return BadUri(text, "its bracket does not close before the port");
    uri.host = std::string(host.substr(1, host.size() - 2));
    if (!IsIpv6(uri.host)) {
      return BadUri(text, fmt::format("'{}' is no IPv6 address", uri.host));
    }
    return uri;
  }
  uri.host = std::string(host);
  if (host.find(':') != std::string_view::npos) {
    return BadUri(text, "an IPv6 address stands in brackets");
  }
  for (char c : host) {
    if (!IsNameCharacter(c)) return BadUri(text, fmt::format("'{}' is no host name", host));
  }
  return uri;
}

bool IsLoopback(const TcpUri& uri) {
  if (uri.host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, uri.host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  if (inet_pton(AF_INET6, uri.host.c_str(), &v6) != 1) return false;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace faultline
