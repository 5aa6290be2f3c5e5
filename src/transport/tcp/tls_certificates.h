// Certificates in the layout that QEMU and libvirt use: one folder with ca-cert.pem, of the source
// client-cert.pem and client-key.pem, of the destination server-cert.pem and server-key.pem, and
// ca-crl.pem if there is one.
#ifndef FAULTLINE_TRANSPORT_TCP_TLS_CERTIFICATES_H_
#define FAULTLINE_TRANSPORT_TCP_TLS_CERTIFICATES_H_

#include <cstdint>
#include <string>

#include "base/status.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace faultline {

// The source is TLS's client, the destination its server.
enum class TlsRole : uint8_t { kSource = 1, kDestination = 2 };

// "client-cert.pem" or "server-cert.pem".
const char* CertificateFileOf(TlsRole role);

// Lets connections of `context` show the certificate of `role` in `directory` and ask for one of
// the same authority. All that can be wrong on this host is found here: a file that is missing, no
// PEM, readable by others, expired or not valid yet, a key of another certificate, a certificate of
// another authority or for the other role. Errors name the file and the mend. Returns until when
// this side's certificate is valid: "2027-03-01".
absl::StatusOr<std::string> UseCertificates(ssl_ctx_st* context, const std::string& directory,
                                            TlsRole role);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TLS_CERTIFICATES_H_
