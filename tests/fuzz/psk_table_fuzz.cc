// A file of pre-shared keys -> PskTable. What it accepts must be what it says it checks.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "transport/tcp/tls_psk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using faultline::PskTable;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto table = PskTable::Parse(text, "keys.psk");
  if (!table.ok()) {
    FAULTLINE_CHECK(absl::IsFailedPrecondition(table.status()));
    return 0;
  }
  const PskTable::Entry& first = table->first();
  FAULTLINE_CHECK(!first.identity.empty() && first.identity.size() <= PskTable::kIdentityBytesMax);
  FAULTLINE_CHECK(first.identity.find(':') == std::string::npos);
  FAULTLINE_CHECK(first.key.size() >= PskTable::kKeyBytesMin);
  FAULTLINE_CHECK(first.key.size() <= PskTable::kKeyBytesMax);
  FAULTLINE_CHECK(table->Find(first.identity) == &first);
  return 0;
}
