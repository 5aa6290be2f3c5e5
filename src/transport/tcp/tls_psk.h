// Pre-shared keys: the file that names them, and TLS 1.3 with one of them.
#ifndef FAULTLINE_TRANSPORT_TCP_TLS_PSK_H_
#define FAULTLINE_TRANSPORT_TCP_TLS_PSK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace faultline {

// The keys of one file: lines "identity:hexadecimal key", as QEMU's keys.psk has them; empty lines
// and those that begin with '#' count for nothing. The keys are wiped when the table goes.
class PskTable {
 public:
  struct Entry {
    std::string identity;
    std::vector<uint8_t> key;
  };

  static constexpr size_t kKeyBytesMin = 16;
  static constexpr size_t kKeyBytesMax = 64;
  static constexpr size_t kIdentityBytesMax = 128;

  // At least one key, or an error that names `path` and the line, never the key.
  static absl::StatusOr<PskTable> Parse(const std::string& text, const std::string& path);

  PskTable() = default;
  ~PskTable();
  PskTable(PskTable&&) = default;
  PskTable& operator=(PskTable&&) = delete;

  // The one that a source shows.
  const Entry& first() const { return entries_.front(); }
  // Null: there is none of that name.
  const Entry* Find(const std::string& identity) const;

 private:
  std::vector<Entry> entries_;
};

// Lets connections of `context` prove the keys of `table`, which outlives them. A source shows the
// first one; a destination knows them all.
void UsePskAsSource(ssl_ctx_st* context, const PskTable* table);
void UsePskAsDestination(ssl_ctx_st* context, const PskTable* table);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TLS_PSK_H_
