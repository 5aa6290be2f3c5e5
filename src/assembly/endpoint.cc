#include "assembly/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "transport/rdma/rdma_uri.h"

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

absl::Status ParseUri(const std::string& uri, Endpoint* endpoint) {
  if (!IsRdmaUri(uri)) {
    ASSIGN_OR_RETURN(endpoint->uri, ParseTcpUri(uri));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(RdmaUri parsed, ParseRdmaUri(uri));
  endpoint->rdma = true;
  endpoint->uri = std::move(parsed.first);
  endpoint->rdma_rails = std::move(parsed.rails);
  return absl::OkStatus();
}

absl::Status ChooseRdma(const RdmaChoice& rdma, const std::string& uri, Endpoint* endpoint) {
  if (!endpoint->rdma && rdma != RdmaChoice{}) {
    return absl::InvalidArgumentError(
        fmt::format("--control and --rdma are for rdma:// addresses, and '{}' is none", uri));
  }
  absl::StatusOr<RdmaTuning> tuning = ParseRdmaTuning(rdma.tuning);
  if (!tuning.ok()) return Annotate(tuning.status(), "--rdma");
  endpoint->tuning = *std::move(tuning);
  if (!endpoint->rdma_rails.empty() && !endpoint->tuning.device.empty()) {
    return absl::InvalidArgumentError(
        "--rdma: device, port and gid are for one rail; of several the addresses say which device "
        "each is on");
  }
  if (rdma.control.empty()) return absl::OkStatus();
  absl::StatusOr<TcpUri> control = ParseTcpUri(rdma.control);
  if (!control.ok()) return Annotate(control.status(), "--control");
  if (control->port == 0) {
    return absl::InvalidArgumentError(
        "--control: give a port, which the other side has to know beside RDMA's");
  }
  endpoint->rdma_uri = std::exchange(endpoint->uri, *std::move(control));
  return absl::OkStatus();
}

// Whether nothing of a migration leaves this host, neither connections nor pages.
bool StaysHere(const Endpoint& endpoint) {
  return IsLoopback(endpoint.uri) &&
         (!endpoint.rdma_uri.has_value() || IsLoopback(*endpoint.rdma_uri)) &&
         std::ranges::all_of(endpoint.rdma_rails, IsLoopback);
}

}  // namespace

bool IsRdmaUri(const std::string& uri) { return uri.starts_with(kRdmaScheme); }

absl::StatusOr<std::string> FindCertificates() {
  return FindTlsDirectory({"/etc/pki/faultline", "/etc/pki/qemu"});
}

absl::Status FitForRdma(IntegrityWish* integrity, Compression compression, MigrationMode mode) {
  if (mode != MigrationMode::kPostCopy) {
    return absl::InvalidArgumentError(
        "--mode: over rdma:// memory is read once the VM has moved; give --mode postcopy, or use "
        "tcp://");
  }
  if (*integrity == IntegrityWish::kOn) {
    return absl::InvalidArgumentError(
        "--integrity on: over rdma:// pages are read without the source, which could not say what "
        "they were; leave it away (RDMA's own check sums cover the wire) or use tcp://");
  }
  if (compression == Compression::kLz4 || compression == Compression::kZstd) {
    return absl::InvalidArgumentError(
        "--compress: over rdma:// pages are read as they lie; leave it away, or use tcp://");
  }
  *integrity = IntegrityWish::kOff;
  return absl::OkStatus();
}

absl::StatusOr<Endpoint> SecureEndpoint(const std::string& uri, bool insecure,
                                        const TlsChoice& choice, TlsRole role,
                                        const RdmaChoice& rdma) {
  Endpoint endpoint;
  RETURN_IF_ERROR(ParseUri(uri, &endpoint));
  RETURN_IF_ERROR(ChooseRdma(rdma, uri, &endpoint));
  RETURN_IF_ERROR(CheckChoice(insecure, choice));
  const bool has_secrets = !choice.directory.empty() || !choice.psk_path.empty();
  if (!has_secrets && (insecure || StaysHere(endpoint))) {
    if (choice.hostname.empty()) return endpoint;
    return absl::InvalidArgumentError(
        fmt::format("--tls-hostname: connections to '{}' are plain; give --tls-dir as well", uri));
  }
  TlsOptions options;
  options.role = role;
  options.secrets = {choice.directory, choice.psk_path};
  options.peer_host = choice.hostname.empty() ? endpoint.uri.host : choice.hostname;
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
  ASSIGN_OR_RETURN(endpoint.tls, TlsContext::Make(std::move(options)));
  return endpoint;
}

}  // namespace faultline
