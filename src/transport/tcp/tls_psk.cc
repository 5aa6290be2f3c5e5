#include "transport/tcp/tls_psk.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "transport/tcp/openssl_handles.h"

namespace faultline {
namespace {

// An external key is bound to the hash of a cipher suite; this one's is SHA-256.
constexpr unsigned char kPskCipher[] = {0x13, 0x01};  // TLS_AES_128_GCM_SHA256

absl::Status BadLine(const std::string& path, size_t line, std::string_view why) {
  return absl::FailedPreconditionError(
      fmt::format("'{}', line {}: {}; write identity:key, the key in hexadecimal, for example "
                  "'vms:'$(openssl rand -hex 32)",
                  path, line, why));
}

absl::StatusOr<std::vector<uint8_t>> ParseKey(std::string_view digits, const std::string& path,
                                              size_t line) {
  if (digits.size() % 2 != 0 || digits.size() < PskTable::kKeyBytesMin * 2 ||
      digits.size() > PskTable::kKeyBytesMax * 2) {
    return BadLine(
        path, line,
        fmt::format("the key has {} hexadecimal digits, and {} to {} are allowed", digits.size(),
                    PskTable::kKeyBytesMin * 2, PskTable::kKeyBytesMax * 2));
  }
  std::vector<uint8_t> key(digits.size() / 2);
  for (size_t i = 0; i < key.size(); ++i) {
    const char* begin = digits.data() + 2 * i;
    if (std::from_chars(begin, begin + 2, key[i], 16).ptr != begin + 2) {
      return BadLine(path, line, "the key has a character that is no hexadecimal digit");
    }
  }
  return key;
}

const PskTable& TableOf(SSL* ssl) {
  return *static_cast<const PskTable*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

TlsSessionTicketPtr TicketOf(SSL* ssl, const PskTable::Entry& entry) {
  TlsSessionTicketPtr ticket(SSL_SESSION_new());
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kPskCipher);
  if (ticket == nullptr || cipher == nullptr ||
      SSL_SESSION_set1_master_key(ticket.get(), entry.key.data(), entry.key.size()) != 1 ||
      SSL_SESSION_set_cipher(ticket.get(), cipher) != 1 ||
      SSL_SESSION_set_protocol_version(ticket.get(), TLS1_3_VERSION) != 1) {
    return nullptr;
  }
  return ticket;
}

// OpenSSL's callbacks: 0 breaks the handshake off; 1 without a session goes on without a key.
int ShowKey(SSL* ssl, const EVP_MD* hash, const unsigned char** identity, size_t* identity_bytes,
            SSL_SESSION** session) {
  // A second attempt (HelloRetryRequest) names the hash that the other side has chosen.
  if (hash != nullptr && EVP_MD_get_type(hash) != NID_sha256) return 1;
  const PskTable::Entry& entry = TableOf(ssl).first();
  TlsSessionTicketPtr ticket = TicketOf(ssl, entry);
  if (ticket == nullptr) return 0;
  *identity = reinterpret_cast<const unsigned char*>(entry.identity.data());
  *identity_bytes = entry.identity.size();
  *session = ticket.release();
  return 1;
}

int FindKey(SSL* ssl, const unsigned char* identity, size_t identity_bytes, SSL_SESSION** session) {
  *session = nullptr;
  const PskTable::Entry* entry =
      TableOf(ssl).Find(std::string(reinterpret_cast<const char*>(identity), identity_bytes));
  if (entry == nullptr) return 1;
  TlsSessionTicketPtr ticket = TicketOf(ssl, *entry);
  if (ticket == nullptr) return 0;
  *session = ticket.release();
  return 1;
}

// Once set it is only read.
void SetTable(SSL_CTX* context, const PskTable* table) {
  SSL_CTX_set_app_data(context, const_cast<PskTable*>(table));
}

}  // namespace

PskTable::~PskTable() {
  for (Entry& entry : entries_) OPENSSL_cleanse(entry.key.data(), entry.key.size());
}

absl::StatusOr<PskTable> PskTable::Parse(const std::string& text, const std::string& path) {
  PskTable table;
  std::string_view rest = text;
  for (size_t line = 1; !rest.empty(); ++line) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view words = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!words.empty() && words.back() == '\r') words.remove_suffix(1);
    if (words.empty() || words.front() == '#') continue;
    const size_t colon = words.find(':');
    if (colon == std::string_view::npos) return BadLine(path, line, "it has no colon");
    if (colon == 0 || colon > kIdentityBytesMax) {
      return BadLine(path, line,
                     fmt::format("the identity has {} bytes, and 1 to {} are allowed", colon,
                                 kIdentityBytesMax));
    }
    ASSIGN_OR_RETURN(std::vector<uint8_t> key, ParseKey(words.substr(colon + 1), path, line));
    Entry entry{std::string(words.substr(0, colon)), std::move(key)};
    if (table.Find(entry.identity) != nullptr) {
      return BadLine(path, line, fmt::format("'{}' has a key already", entry.identity));
    }
    table.entries_.push_back(std::move(entry));
  }
  if (table.entries_.empty()) return BadLine(path, 1, "the file has no key");
  return table;
}

const PskTable::Entry* PskTable::Find(const std::string& identity) const {
  auto found = std::find_if(entries_.begin(), entries_.end(),
                            [&](const Entry& entry) { return entry.identity == identity; });
  return found == entries_.end() ? nullptr : &*found;
}

void UsePskAsSource(SSL_CTX* context, const PskTable* table) {
  SetTable(context, table);
  SSL_CTX_set_psk_use_session_callback(context, ShowKey);
}

void UsePskAsDestination(SSL_CTX* context, const PskTable* table) {
  SetTable(context, table);
  SSL_CTX_set_psk_find_session_callback(context, FindKey);
}

}  // namespace faultline
