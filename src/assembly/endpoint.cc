#include "assembly/endpoint.h"

#include <fmt/format.h>

#include <utility>

namespace faultline {
namespace {

absl::Status CheckChoice(bool insecure, const TlsChoice& choice) {
  const bool has_directory = !choice.directory.empty();
  const bool has_psk = !choice.psk_path.empty();
  if (has_directory && has_psk) {
    return absl::InvalidArgumentError(
        "--tls-dir and --tls-psk exclude each other: prove this side by certificate or by key");
  }
  if (insecure && (has_directory || has_psk)) {
    return absl::InvalidArgumentError(
        "--insecure excludes --tls-dir and --tls-psk: leave one of them out, on both sides alike");
  }
  if (!choice.hostname.empty() && (insecure || has_psk)) {
    return absl::InvalidArgumentError(
        "--tls-hostname is for certificates, which --insecure and --tls-psk do without");
  }
  return absl::OkStatus();
}

absl::StatusOr<TcpUri> ParseUri(const std::string& uri) {
  if (uri.starts_with("rdma://")) {
    return absl::InvalidArgumentError(
        fmt::format("'{}': this release has no RDMA transport; use tcp://HOST:PORT", uri));
  }
  return ParseTcpUri(uri);
}

}  // namespace

absl::StatusOr<std::string> FindCertificates() {
  return FindTlsDirectory({"/etc/pki/faultline", "/etc/pki/qemu"});
}

absl::StatusOr<Endpoint> SecureEndpoint(const std::string& uri, bool insecure,
                                        const TlsChoice& choice, TlsRole role) {
  ASSIGN_OR_RETURN(TcpUri tcp, ParseUri(uri));
  RETURN_IF_ERROR(CheckChoice(insecure, choice));
  const bool has_secrets = !choice.directory.empty() || !choice.psk_path.empty();
  if (!has_secrets && (insecure || IsLoopback(tcp))) {
    if (choice.hostname.empty()) return Endpoint{std::move(tcp), nullptr};
    return absl::InvalidArgumentError(
        fmt::format("--tls-hostname: connections to '{}' are plain; give --tls-dir as well", uri));
  }
  TlsOptions options;
  options.role = role;
  options.secrets = {choice.directory, choice.psk_path};
  options.peer_host = choice.hostname.empty() ? tcp.host : choice.hostname;
  if (!has_secrets) {
    absl::StatusOr<std::string> found = FindCertificates();
    if (!found.ok()) {
      return absl::InvalidArgumentError(fmt::format(
          "'{}' is beyond this host, where connections are in TLS, and {}; give --tls-dir DIR or "
          "--tls-psk FILE, or --insecure on both sides for plain TCP if the network is trusted",
          uri, MessageOf(found.status())));
    }
    options.secrets.directory = *found;
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const TlsContext> tls, TlsContext::Make(std::move(options)));
  return Endpoint{std::move(tcp), std::move(tls)};
}

}  // namespace faultline
