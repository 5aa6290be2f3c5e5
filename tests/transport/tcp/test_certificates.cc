#include "transport/tcp/test_certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>

#include "base/check.h"

namespace faultline {
namespace {

constexpr long kDayS = 24 * 60 * 60;

EVP_PKEY* NewKey() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  FAULTLINE_CHECK(key != nullptr);
  return key;
}

void SetName(X509* certificate, const std::string& name) {
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
}

void Extend(X509* certificate, const X509* issuer, int kind, const std::string& value) {
  if (value.empty()) return;
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, const_cast<X509*>(issuer), certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  FAULTLINE_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

X509* NewCertificate(EVP_PKEY* key, const TestCertificate& like) {
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), like.serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), like.from_days * kDayS);
  X509_gmtime_adj(X509_getm_notAfter(certificate), like.until_days * kDayS + like.until_s);
  X509_set_pubkey(certificate, key);
  SetName(certificate, like.name);
  return certificate;
}

class PemFile {
 public:
  explicit PemFile(const std::string& path) : file_(fopen(path.c_str(), "w")) {
    FAULTLINE_CHECK(file_ != nullptr);
  }
  ~PemFile() { fclose(file_); }
  FILE* get() { return file_; }

 private:
  FILE* const file_;
};

}  // namespace

TestFolder::TestFolder() {
  std::string name = std::filesystem::temp_directory_path() / "faultline-tls-XXXXXX";
  FAULTLINE_CHECK(mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TestFolder::~TestFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TestFolder::Write(const std::string& name, const std::string& text, unsigned mode) const {
  PemFile file(File(name));
  fwrite(text.data(), 1, text.size(), file.get());
  fchmod(fileno(file.get()), mode);
}

TestAuthority::TestAuthority(const std::string& name, int until_days) : key_(NewKey()) {
  TestCertificate own;
  own.name = name;
  own.serial = 1;
  own.from_days = -40;
  own.until_days = until_days;
  certificate_ = NewCertificate(key_, own);
  X509_set_issuer_name(certificate_, X509_get_subject_name(certificate_));
  Extend(certificate_, certificate_, NID_basic_constraints, "critical,CA:TRUE");
  Extend(certificate_, certificate_, NID_subject_key_identifier, "hash");
  FAULTLINE_CHECK(X509_sign(certificate_, key_, EVP_sha256()) > 0);
}

TestAuthority::~TestAuthority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

void TestAuthority::WriteOwn(const TestFolder& folder) const {
  PemFile file(folder.File("ca-cert.pem"));
  FAULTLINE_CHECK(PEM_write_X509(file.get(), certificate_) == 1);
}

void TestAuthority::Write(const TestFolder& folder, const std::string& side,
                          const TestCertificate& like) const {
  EVP_PKEY* key = NewKey();
  X509* certificate = NewCertificate(key, like);
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate_));
  Extend(certificate, certificate_, NID_basic_constraints, "CA:FALSE");
  Extend(certificate, certificate_, NID_subject_alt_name, like.hosts);
  Extend(certificate, certificate_, NID_ext_key_usage, like.purposes);
  FAULTLINE_CHECK(X509_sign(certificate, key_, EVP_sha256()) > 0);
  {
    PemFile file(folder.File(side + "-cert.pem"));
    FAULTLINE_CHECK(PEM_write_X509(file.get(), certificate) == 1);
    PemFile key_file(folder.File(side + "-key.pem"));
    fchmod(fileno(key_file.get()), 0600);
    FAULTLINE_CHECK(
        PEM_write_PrivateKey(key_file.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  }
  X509_free(certificate);
  EVP_PKEY_free(key);
}

void TestAuthority::WriteRevocations(const TestFolder& folder, long serial, int until_days) const {
  X509_CRL* list = X509_CRL_new();
  X509_CRL_set_version(list, 1);
  X509_CRL_set_issuer_name(list, X509_get_subject_name(certificate_));
  ASN1_TIME* time = X509_gmtime_adj(nullptr, -40 * kDayS);
  X509_CRL_set1_lastUpdate(list, time);
  X509_REVOKED* revoked = X509_REVOKED_new();
  ASN1_INTEGER* number = ASN1_INTEGER_new();
  ASN1_INTEGER_set(number, serial);
  X509_REVOKED_set_serialNumber(revoked, number);
  X509_REVOKED_set_revocationDate(revoked, time);
  X509_CRL_add0_revoked(list, revoked);
  X509_gmtime_adj(time, until_days * kDayS);
  X509_CRL_set1_nextUpdate(list, time);
  FAULTLINE_CHECK(X509_CRL_sign(list, key_, EVP_sha256()) > 0);
  {
    PemFile file(folder.File("ca-crl.pem"));
    FAULTLINE_CHECK(PEM_write_X509_CRL(file.get(), list) == 1);
  }
  ASN1_INTEGER_free(number);
  ASN1_TIME_free(time);
  X509_CRL_free(list);
}

void TestAuthority::WriteAll(const TestFolder& folder) const {
  WriteOwn(folder);
  Write(folder, "server", {.name = "the destination"});
  Write(folder, "client", {.name = "the source"});
}

const TestFolder& SharedCertificates() {
  static const auto folder = [] {
    auto made = std::make_unique<TestFolder>();
    TestAuthority("test authority").WriteAll(*made);
    made->Write("keys.psk", "vms:" + std::string(64, 'a') + "\n");
    return made;
  }();
  return *folder;
}

TlsPair CertificatePair(uint64_t records_per_key) {
  TlsPair pair;
  TlsOptions options;
  options.secrets.directory = SharedCertificates().path();
  options.peer_host = "127.0.0.1";
  options.records_per_key = records_per_key;
  pair.source = TlsContext::Make(options).value();
  options.role = TlsRole::kDestination;
  pair.destination = TlsContext::Make(options).value();
  return pair;
}

TlsPair PskPair() {
  TlsPair pair;
  TlsOptions options;
  options.secrets.psk_path = SharedCertificates().File("keys.psk");
  pair.source = TlsContext::Make(options).value();
  options.role = TlsRole::kDestination;
  pair.destination = TlsContext::Make(options).value();
  return pair;
}

}  // namespace faultline
