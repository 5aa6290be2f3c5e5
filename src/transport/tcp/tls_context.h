// What all TLS connections of one side share: its secrets, and whom it believes.
#ifndef FAULTLINE_TRANSPORT_TCP_TLS_CONTEXT_H_
#define FAULTLINE_TRANSPORT_TCP_TLS_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "transport/tcp/tls_certificates.h"
#include "transport/tcp/tls_psk.h"
#include "transport/tcp/tls_session.h"

namespace faultline {

// Exactly one of the two says how a side proves itself.
struct TlsSecrets {
  std::string directory;  // certificates; both sides show one (tls_certificates.h)
  std::string psk_path;   // a file of pre-shared keys (tls_psk.h)
};

struct TlsOptions {
  TlsRole role = TlsRole::kSource;
  TlsSecrets secrets;
  // Source with certificates: the host name or address that the destination's must be for.
  std::string peer_host;
  // After so many records a sender goes over to a new key: AES-GCM's margin is used up at 2^24.5.
  uint64_t records_per_key = uint64_t{1} << 23;
};

// TLS 1.3 and nothing else: no resumption, no early data, no renegotiation. Immutable; NewSession
// belongs to the control thread.
class TlsContext : public std::enable_shared_from_this<TlsContext> {
 public:
  // Reads the secrets. Errors name the file, what is wrong with it, and the mend.
  static absl::StatusOr<std::shared_ptr<const TlsContext>> Make(TlsOptions options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // TLS for a fresh connection on `fd`, which stays the caller's and outlives it; `peer_name` is
  // for texts. Null: the host has no memory.
  std::unique_ptr<TlsSession> NewSession(int fd, std::string peer_name) const;

  const TlsOptions& options() const { return options_; }
  bool uses_psk() const { return !options_.secrets.psk_path.empty(); }
  // "2027-03-01": until when this side's certificate is valid; empty with keys.
  const std::string& valid_until() const { return valid_until_; }

 private:
  explicit TlsContext(TlsOptions options) : options_(std::move(options)) {}
  absl::Status Load();

  const TlsOptions options_;
  ssl_ctx_st* context_ = nullptr;
  std::optional<PskTable> psk_;  // with keys
  std::string valid_until_;
};

// The first of `directories` that has a ca-cert.pem; NotFound names them all.
absl::StatusOr<std::string> FindTlsDirectory(const std::vector<std::string>& directories);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TLS_CONTEXT_H_
