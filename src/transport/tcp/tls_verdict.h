// Why TLS failed, in a sentence with the mend.
#ifndef FAULTLINE_TRANSPORT_TCP_TLS_VERDICT_H_
#define FAULTLINE_TRANSPORT_TCP_TLS_VERDICT_H_

#include <string>

#include "base/status.h"
#include "transport/tcp/tls_context.h"

struct x509_store_ctx_st;  // OpenSSL's X509_STORE_CTX

namespace faultline {

// OpenSSL's callback for each certificate of a peer: changes nothing, and writes the name of one
// that is refused into the std::string that is the connection's app data. OpenSSL itself forgets
// such a certificate.
int NoteRefusedCertificate(int accepted, x509_store_ctx_st* check);

// For an operation of `ssl` that failed for good with `error_number` in errno; empties the thread's
// error queue. PermissionDenied: one side's proof was refused. FailedPrecondition: the two sides'
// settings do not fit. Unavailable: the connection ended, or what came is no TLS or was changed on
// its way.
absl::Status ExplainTlsFailure(ssl_st* ssl, const TlsOptions& options, const std::string& peer_name,
                               int error_number);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TLS_VERDICT_H_
