// Certificates and keys that a test makes for itself, good and bad.
#ifndef FAULTLINE_TESTS_TRANSPORT_TCP_TEST_CERTIFICATES_H_
#define FAULTLINE_TESTS_TRANSPORT_TCP_TEST_CERTIFICATES_H_

#include <memory>
#include <string>
#include <vector>

#include "transport/tcp/tls_context.h"

struct evp_pkey_st;
struct x509_st;

namespace faultline {

// A folder that goes with its object.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  void Write(const std::string& name, const std::string& text, unsigned mode = 0600) const;

 private:
  std::string path_;
};

struct TestCertificate {
  std::string name = "test";                         // its CN
  std::string hosts = "DNS:localhost,IP:127.0.0.1";  // its subjectAltName; empty: none
  std::string purposes = "serverAuth,clientAuth";    // its extendedKeyUsage; empty: none
  int from_days = -1;                                // from today
  int until_days = 30;
  long until_s = 0;  // besides
  long serial = 2;
};

// An authority that signs what it is told to.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name, int until_days = 30);
  ~TestAuthority();

  // ca-cert.pem.
  void WriteOwn(const TestFolder& folder) const;
  // `side`-cert.pem and `side`-key.pem, for "client" and "server".
  void Write(const TestFolder& folder, const std::string& side,
             const TestCertificate& certificate = {}) const;
  // ca-crl.pem, which revokes one serial number.
  void WriteRevocations(const TestFolder& folder, long serial, int until_days = 30) const;
  // All that two sides need.
  void WriteAll(const TestFolder& folder) const;

 private:
  evp_pkey_st* key_;
  x509_st* certificate_;
};

// Both sides of a TLS connection; null: plain.
struct TlsPair {
  std::shared_ptr<const TlsContext> source;
  std::shared_ptr<const TlsContext> destination;
};

// Secrets that fit together, made once for a process.
const TestFolder& SharedCertificates();
TlsPair CertificatePair(uint64_t records_per_key = uint64_t{1} << 23);
TlsPair PskPair();

}  // namespace faultline

#endif  // FAULTLINE_TESTS_TRANSPORT_TCP_TEST_CERTIFICATES_H_
