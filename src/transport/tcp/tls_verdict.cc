#include "transport/tcp/tls_verdict.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/tcp/openssl_handles.h"

namespace faultline {
namespace {

// The name that a peer's certificate bears, fit for a terminal.
std::string NameOf(const X509* certificate) {
  constexpr long kNameBytesMax = 200;
  BioPtr text(BIO_new(BIO_s_mem()));
  if (text == nullptr ||
      X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) {
    return "?";
  }
  char* bytes = nullptr;
  const long length = BIO_get_mem_data(text.get(), &bytes);
  return std::string(bytes, static_cast<size_t>(std::min(length, kNameBytesMax)));
}

std::string RefusedBecause(long error, const TlsOptions& options) {
  const std::string& directory = options.secrets.directory;
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "it has expired; make a new one there (and check the clocks of both hosts)";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "it is not valid yet; check the clocks of both hosts (`date`)";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return fmt::format(
          "it is not for '{}'; connect by the name that it bears, or give that name "
          "with --tls-hostname",
          options.peer_host);
    case X509_V_ERR_CERT_REVOKED:
      return fmt::format("'{}/ca-crl.pem' revokes it; make a new one there", directory);
    case X509_V_ERR_INVALID_PURPOSE:
      return "it is not allowed for that side (extendedKeyUsage); make a new one there";
    case X509_V_ERR_UNABLE_TO_GET_CRL:
      return fmt::format(
          "'{}/ca-crl.pem' says nothing about its authority; add that authority's "
          "list, or remove the file",
          directory);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return fmt::format(
          "no authority in '{}/ca-cert.pem' has signed it; both hosts need "
          "certificates of the same authority",
          directory);
    default:
      return X509_verify_cert_error_string(error);
  }
}

absl::Status PeerCertificateRefused(SSL* ssl, const TlsOptions& options,
                                    const std::string& peer_name) {
  if (!options.secrets.psk_path.empty()) {
    return absl::PermissionDeniedError(fmt::format(
        "the peer {} does not have the key that '{}' names, or proves itself by certificate; give "
        "--tls-psk with the same file on both sides",
        peer_name, options.secrets.psk_path));
  }
  return absl::PermissionDeniedError(
      fmt::format("the certificate of the peer {} ({}) is refused: {}", peer_name,
                  *static_cast<const std::string*>(SSL_get_app_data(ssl)),
                  RefusedBecause(SSL_get_verify_result(ssl), options)));
}

// The peer's last word before it hung up.
absl::Status RefusedByPeer(int alert, const TlsOptions& options, const std::string& peer_name) {
  const std::string& directory = options.secrets.directory;
  const std::string own = options.secrets.psk_path.empty()
                              ? fmt::format("'{}/{}'", directory, CertificateFileOf(options.role))
                              : fmt::format("the key of '{}'", options.secrets.psk_path);
  const char* why = nullptr;
  switch (alert) {
    case SSL_AD_CERTIFICATE_EXPIRED:
      why = "it has expired, by the peer's clock";
      break;
    case SSL_AD_UNKNOWN_CA:
      why = "no authority in the peer's ca-cert.pem has signed it";
      break;
    case SSL_AD_CERTIFICATE_REVOKED:
      why = "the peer's ca-crl.pem revokes it";
      break;
    case SSL_AD_BAD_CERTIFICATE:
      why = "it is not for the name that the peer connects to";
      break;
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
      why = "the peer cannot use it";
      break;
    case SSL_AD_CERTIFICATE_REQUIRED:
      why = "the peer wants a certificate; give --tls-dir on both sides";
      break;
    case SSL_AD_ILLEGAL_PARAMETER:
    case SSL_AD_DECRYPT_ERROR:
      if (!options.secrets.psk_path.empty()) why = "the peer has another key of that name";
      break;
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_UNKNOWN_PSK_IDENTITY:
      why =
          "the peer does not know it, or takes another kind of proof; give --tls-dir on both "
          "sides, or --tls-psk with the same file";
      break;
    case SSL_AD_PROTOCOL_VERSION:
      return absl::FailedPreconditionError(fmt::format(
          "the peer {} has no TLS 1.3; install the same Faultline on both hosts", peer_name));
    default:
      break;
  }
  if (why != nullptr) {
    return absl::PermissionDeniedError(
        fmt::format("the peer {} refuses {}: {}", peer_name, own, why));
  }
  return absl::UnavailableError(
      fmt::format("the peer {} broke TLS off: {}", peer_name, SSL_alert_desc_string_long(alert)));
}

absl::Status ExplainReason(SSL* ssl, int reason, const TlsOptions& options,
                           const std::string& peer_name) {
  switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return PeerCertificateRefused(ssl, options, peer_name);
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return absl::PermissionDeniedError(
          fmt::format("the peer {} shows no certificate; give --tls-dir there as well", peer_name));
    case SSL_R_BINDER_DOES_NOT_VERIFY:
      return absl::PermissionDeniedError(
          fmt::format("the peer {} has another key than '{}' says for its identity; copy the file",
                      peer_name, options.secrets.psk_path));
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_CIPHER:
      if (options.secrets.psk_path.empty()) break;
      return absl::PermissionDeniedError(fmt::format(
          "the peer {} shows no identity that '{}' has a key for; give --tls-psk with the same "
          "file on both sides",
          peer_name, options.secrets.psk_path));
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      return absl::FailedPreconditionError(fmt::format(
          "the peer {} has no TLS 1.3; install the same Faultline on both hosts", peer_name));
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_BAD_RECORD_TYPE:
      return absl::FailedPreconditionError(fmt::format(
          "the peer {} answers without TLS; give both sides --tls-dir or --tls-psk, or both "
          "--insecure if the network is trusted",
          peer_name));
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return absl::UnavailableError(
          fmt::format("the peer {} closed the connection{}", peer_name,
                      SSL_is_init_finished(ssl) ? "" : " in the middle of the TLS handshake"));
    default:
      break;
  }
  if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
    return RefusedByPeer(reason - SSL_AD_REASON_OFFSET, options, peer_name);
  }
  const char* text = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, reason));
  return absl::UnavailableError(fmt::format("TLS with the peer {} failed: {}", peer_name,
                                            text != nullptr ? text : "no reason given"));
}

}  // namespace

int NoteRefusedCertificate(int accepted, X509_STORE_CTX* check) {
  const X509* certificate = X509_STORE_CTX_get0_cert(check);
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(check, SSL_get_ex_data_X509_STORE_CTX_idx()));
  if (accepted == 0 && certificate != nullptr) {
    *static_cast<std::string*>(SSL_get_app_data(ssl)) = NameOf(certificate);
  }
  return accepted;
}

absl::Status ExplainTlsFailure(SSL* ssl, const TlsOptions& options, const std::string& peer_name,
                               int error_number) {
  // The last error of the queue is the outermost one; what caused it lies below.
  const unsigned long first = ERR_peek_error();
  const unsigned long last = ERR_peek_last_error();
  ERR_clear_error();
  if (last == 0 || ERR_SYSTEM_ERROR(last)) {
    if (error_number == 0) {
      return absl::UnavailableError("the peer " + peer_name + " closed the connection");
    }
    return ErrnoStatus(error_number, "TLS with " + peer_name);
  }
  const unsigned long code = ERR_GET_LIB(first) == ERR_LIB_SSL ? first : last;
  return ExplainReason(ssl, ERR_GET_REASON(code), options, peer_name);
}

}  // namespace faultline
