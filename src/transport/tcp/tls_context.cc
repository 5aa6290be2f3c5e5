#include "transport/tcp/tls_context.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/file_descriptor.h"
#include "transport/tcp/openssl_handles.h"
#include "transport/tcp/private_file.h"
#include "transport/tcp/tls_verdict.h"

namespace faultline {
namespace {

// Four records at a time: less than one system call for each.
constexpr size_t kReadBufferBytes = 64 * 1024;
// The hash of an external key is SHA-256 (tls_psk.cc), so its suites are those with that hash.
constexpr char kCertificateSuites[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr char kPskSuites[] = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";

// kTLS is used for sending where the kernel has it, and silently not used elsewhere.
constexpr uint64_t kSslOptions =
    SSL_OP_ENABLE_KTLS | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE;
// A server that asks for certificates wants to know what its sessions belong to, and a pre-shared
// key is a session to OpenSSL. A client must not say it.
constexpr unsigned char kSessionContext[] = "faultline";
constexpr long kSslModes = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;

// The kernel loads its TLS module when it is first asked for, and only for who has rights that a
// command at work has given up.
void LoadKernelTls() {
  FileDescriptor unused(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Of a socket that is not connected it is refused, after the module was loaded.
  (void)setsockopt(unused.get(), IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls") - 1);
}

bool IsAddress(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

bool ExpectHost(SSL* ssl, const std::string& host) {
  if (IsAddress(host)) {
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
  }
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set1_host(ssl, host.c_str()) == 1;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TlsContext>> TlsContext::Make(TlsOptions options) {
  std::shared_ptr<TlsContext> context(new TlsContext(std::move(options)));
  LoadKernelTls();
  ERR_clear_error();
  RETURN_IF_ERROR(context->Load());
  return std::shared_ptr<const TlsContext>(std::move(context));
}

absl::Status TlsContext::Load() {
  const bool is_source = options_.role == TlsRole::kSource;
  context_ = SSL_CTX_new(is_source ? TLS_client_method() : TLS_server_method());
  if (context_ == nullptr || SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context_, uses_psk() ? kPskSuites : kCertificateSuites) != 1 ||
      (!is_source &&
       SSL_CTX_set_session_id_context(context_, kSessionContext, sizeof(kSessionContext)) != 1) ||
      SSL_CTX_set_num_tickets(context_, 0) != 1) {
    return absl::InternalError("setting up OpenSSL: " + TakeOpenSslError());
  }
  SSL_CTX_set_options(context_, kSslOptions);
  SSL_CTX_set_mode(context_, kSslModes);
  SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(context_, 1);
  SSL_CTX_set_default_read_buffer_len(context_, kReadBufferBytes);
  // With keys nobody is trusted by certificate: whoever comes with one instead is refused.
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     NoteRefusedCertificate);
  if (!uses_psk()) {
    ASSIGN_OR_RETURN(valid_until_,
                     UseCertificates(context_, options_.secrets.directory, options_.role));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const SecretText text, ReadPrivateFile(options_.secrets.psk_path));
  ASSIGN_OR_RETURN(PskTable table, PskTable::Parse(text.get(), options_.secrets.psk_path));
  psk_.emplace(std::move(table));
  (is_source ? UsePskAsSource : UsePskAsDestination)(context_, &*psk_);
  return absl::OkStatus();
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

std::unique_ptr<TlsSession> TlsContext::NewSession(int fd, std::string peer_name) const {
  ERR_clear_error();
  SSL* ssl = SSL_new(context_);
  auto session = std::make_unique<TlsSession>(shared_from_this(), ssl, fd, std::move(peer_name));
  const bool is_source = options_.role == TlsRole::kSource;
  if (ssl == nullptr || SSL_set_fd(ssl, fd) != 1 ||
      (is_source && !uses_psk() && !ExpectHost(ssl, options_.peer_host))) {
    ERR_clear_error();
    return nullptr;
  }
  is_source ? SSL_set_connect_state(ssl) : SSL_set_accept_state(ssl);
  return session;
}

absl::StatusOr<std::string> FindTlsDirectory(const std::vector<std::string>& directories) {
  for (const std::string& directory : directories) {
    if (access((directory + "/ca-cert.pem").c_str(), F_OK) == 0) return directory;
  }
  return absl::NotFoundError(
      fmt::format("there are no certificates in {}", fmt::join(directories, " or ")));
}

}  // namespace faultline
