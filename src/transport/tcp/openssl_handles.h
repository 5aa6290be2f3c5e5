// OpenSSL's objects as owning pointers, and its error queue. For this room's .cc files only: no
// header that another room sees names a type of OpenSSL's.
#ifndef FAULTLINE_TRANSPORT_TCP_OPENSSL_HANDLES_H_
#define FAULTLINE_TRANSPORT_TCP_OPENSSL_HANDLES_H_

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace faultline {

template <auto kFree>
struct OpenSslFree {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

using BioPtr = std::unique_ptr<BIO, OpenSslFree<BIO_free>>;
using PrivateKeyPtr = std::unique_ptr<EVP_PKEY, OpenSslFree<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, OpenSslFree<X509_free>>;
using RevocationListPtr = std::unique_ptr<X509_CRL, OpenSslFree<X509_CRL_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, OpenSslFree<X509_STORE_CTX_free>>;
using TlsSessionTicketPtr = std::unique_ptr<SSL_SESSION, OpenSslFree<SSL_SESSION_free>>;

// What OpenSSL's last failed call on this thread says ("key values mismatch"); empties the thread's
// error queue, so that nobody takes the error for one of a later call.
inline std::string TakeOpenSslError() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "no reason given";
}

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_OPENSSL_HANDLES_H_
