#include "transport/tcp/tls_certificates.h"

#include <fmt/format.h>
#include <openssl/pem.h>

#include <ctime>
#include <utility>
#include <vector>

#include "base/text.h"
#include "transport/tcp/openssl_handles.h"
#include "transport/tcp/private_file.h"

namespace faultline {
namespace {

constexpr char kGuide[] = "docs/operators-guide.md, \"Certificates\", says how to make one";

std::string Path(const std::string& directory, const std::string& name) {
  return directory + "/" + name;
}

BioPtr OpenText(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// The end of a PEM file shows as this error; anything else is damage.
bool AtEndOfPem() {
  const unsigned long code = ERR_peek_last_error();
  const bool end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  if (end) ERR_clear_error();
  return end;
}

absl::Status BadFile(const std::string& path, const std::string& why) {
  return absl::FailedPreconditionError(fmt::format("'{}' {}", path, why));
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadTextFile(path);
  if (text.ok()) return text;
  return absl::Status(text.status().code(),
                      fmt::format("{}; {}", MessageOf(text.status()), kGuide));
}

// All certificates of a file, at least one.
absl::StatusOr<std::vector<CertificatePtr>> ReadCertificates(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  BioPtr file = OpenText(text);
  std::vector<CertificatePtr> certificates;
  while (CertificatePtr one{PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr)}) {
    certificates.push_back(std::move(one));
  }
  if (AtEndOfPem() && !certificates.empty()) return certificates;
  return BadFile(
      path, fmt::format("holds no certificate in PEM form ({}); {}", TakeOpenSslError(), kGuide));
}

std::string DateText(const ASN1_TIME* time) {
  std::tm date{};
  if (ASN1_TIME_to_tm(time, &date) != 1) return "an unreadable date";
  return fmt::format("{:04}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
}

absl::Status CheckDates(const X509* certificate, const std::string& path) {
  const ASN1_TIME* begin = X509_get0_notBefore(certificate);
  const ASN1_TIME* end = X509_get0_notAfter(certificate);
  if (X509_cmp_current_time(end) < 0) {
    return BadFile(path, fmt::format("expired on {}; make a new one", DateText(end)));
  }
  if (X509_cmp_current_time(begin) > 0) {
    return BadFile(path, fmt::format("is valid only from {}; check this host's clock (`date`)",
                                     DateText(begin)));
  }
  return absl::OkStatus();
}

// Never asks at a terminal.
int NoPassphrase(char*, int, int, void*) { return 0; }

absl::Status UseKey(SSL_CTX* context, const std::string& path, const std::string& certificate) {
  ASSIGN_OR_RETURN(const SecretText text, ReadPrivateFile(path));
  BioPtr file = OpenText(text.get());
  PrivateKeyPtr key(PEM_read_bio_PrivateKey(file.get(), nullptr, NoPassphrase, nullptr));
  if (key == nullptr) {
    return BadFile(path,
                   fmt::format("holds no private key in PEM form, or one behind a passphrase "
                               "({}); `openssl pkey -in OLD -out {}` takes the passphrase off",
                               TakeOpenSslError(), path));
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) == 1 && SSL_CTX_check_private_key(context) == 1) {
    return absl::OkStatus();
  }
  return BadFile(path, fmt::format("is not the key of '{}' ({})", certificate, TakeOpenSslError()));
}

absl::Status UseAuthority(SSL_CTX* context, const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<CertificatePtr> authorities, ReadCertificates(path));
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const CertificatePtr& authority : authorities) {
    RETURN_IF_ERROR(CheckDates(authority.get(), path));
    if (X509_check_ca(authority.get()) == 0) {
      return BadFile(
          path, fmt::format("is the certificate of no authority (CA:TRUE is not set); {}", kGuide));
    }
    if (X509_STORE_add_cert(store, authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return BadFile(path, fmt::format("cannot be used: {}", TakeOpenSslError()));
    }
  }
  return absl::OkStatus();
}

absl::Status UseRevocationList(SSL_CTX* context, const std::string& path) {
  absl::StatusOr<std::string> text = ReadTextFile(path);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok()) return text.status();
  BioPtr file = OpenText(*text);
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  bool found = false;
  while (RevocationListPtr list{PEM_read_bio_X509_CRL(file.get(), nullptr, nullptr, nullptr)}) {
    found = true;
    // An old list says nothing about today: OpenSSL would refuse every peer because of it.
    if (X509_cmp_current_time(X509_CRL_get0_nextUpdate(list.get())) < 0) {
      return BadFile(path, fmt::format("was to be renewed by {}; make a new list (`openssl ca "
                                       "-gencrl`), or remove it",
                                       DateText(X509_CRL_get0_nextUpdate(list.get()))));
    }
    if (X509_STORE_add_crl(store, list.get()) != 1) break;
  }
  if (!AtEndOfPem() || !found) {
    return BadFile(path, fmt::format("holds no list of revoked certificates in PEM form ({})",
                                     TakeOpenSslError()));
  }
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
  return absl::OkStatus();
}

// What a peer would say to this side's certificate, said at home first.
absl::Status CheckOwnChain(SSL_CTX* context, const std::string& directory, TlsRole role) {
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(context, &chain);
  StoreContextPtr check(X509_STORE_CTX_new());
  if (check == nullptr || X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context),
                                              SSL_CTX_get0_certificate(context), chain) != 1) {
    return absl::InternalError(fmt::format("checking '{}': {}", directory, TakeOpenSslError()));
  }
  X509_STORE_CTX_set_default(check.get(), role == TlsRole::kSource ? "ssl_client" : "ssl_server");
  if (X509_verify_cert(check.get()) == 1) return absl::OkStatus();
  const int error = X509_STORE_CTX_get_error(check.get());
  ERR_clear_error();
  const char* mend =
      error == X509_V_ERR_INVALID_PURPOSE
          ? (role == TlsRole::kSource ? "it must be allowed for clients (clientAuth)"
                                      : "it must be allowed for servers (serverAuth)")
      : error == X509_V_ERR_CERT_REVOKED
          ? "ca-crl.pem in that folder revokes it: make a new one"
          : "sign it with that authority, or put the authority that signed it into ca-cert.pem";
  return BadFile(Path(directory, CertificateFileOf(role)),
                 fmt::format("is refused by '{}': {}; {}", Path(directory, "ca-cert.pem"),
                             X509_verify_cert_error_string(error), mend));
}

}  // namespace

const char* CertificateFileOf(TlsRole role) {
  return role == TlsRole::kSource ? "client-cert.pem" : "server-cert.pem";
}

absl::StatusOr<std::string> UseCertificates(SSL_CTX* context, const std::string& directory,
                                            TlsRole role) {
  RETURN_IF_ERROR(UseAuthority(context, Path(directory, "ca-cert.pem")));
  const std::string path = Path(directory, CertificateFileOf(role));
  ASSIGN_OR_RETURN(const std::vector<CertificatePtr> chain, ReadCertificates(path));
  for (const CertificatePtr& certificate : chain) {
    RETURN_IF_ERROR(CheckDates(certificate.get(), path));
    const bool used = certificate == chain.front()
                          ? SSL_CTX_use_certificate(context, certificate.get()) == 1
                          : SSL_CTX_add1_chain_cert(context, certificate.get()) == 1;
    if (!used) {
      return BadFile(path, fmt::format("cannot be used: {}; {}", TakeOpenSslError(), kGuide));
    }
  }
  const char* key = role == TlsRole::kSource ? "client-key.pem" : "server-key.pem";
  RETURN_IF_ERROR(UseKey(context, Path(directory, key), path));
  RETURN_IF_ERROR(UseRevocationList(context, Path(directory, "ca-crl.pem")));
  RETURN_IF_ERROR(CheckOwnChain(context, directory, role));
  return DateText(X509_get0_notAfter(chain.front().get()));
}

}  // namespace faultline
