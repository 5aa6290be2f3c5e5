// Structures that cross the C ABI: read and written no further than the caller's struct_size.
#ifndef FAULTLINE_ASSEMBLY_C_STRUCT_H_
#define FAULTLINE_ASSEMBLY_C_STRUCT_H_

#include <faultline/faultline.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>

#include "base/status.h"

namespace faultline {

// `in` as this library knows the structure. `first_release_bytes` is its size when it was first
// released: nobody has a smaller one. What a newer caller added must be zero.
template <typename T>
absl::StatusOr<T> ReadStruct(const T* in, size_t first_release_bytes, const char* name) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (in == nullptr) return absl::InvalidArgumentError(fmt::format("{} is NULL", name));
  const size_t size_bytes = in->struct_size;
  if (size_bytes < first_release_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("{}: struct_size is {}, at least {} is needed; set it with FAULTLINE_INIT",
                    name, size_bytes, first_release_bytes));
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(in);
  for (size_t i = sizeof(T); i < size_bytes; ++i) {
    if (bytes[i] == 0) continue;
    return absl::UnimplementedError(
        fmt::format("{} uses a field (at byte {}) that this library is too old for; install a "
                    "newer libfaultline",
                    name, i));
  }
  T value{};
  std::memcpy(&value, in, std::min(sizeof(T), size_bytes));
  value.struct_size = sizeof(T);
  return value;
}

// Copies `value` to `out` as far as `out` goes; its struct_size stays. NULL, or a struct_size that
// was not set, does nothing.
template <typename T>
void WriteStruct(const T& value, T* out) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (out == nullptr) return;
  const size_t size_bytes = std::min(sizeof(T), out->struct_size);
  if (size_bytes <= sizeof out->struct_size) return;
  std::memcpy(reinterpret_cast<unsigned char*>(out) + sizeof out->struct_size,
              reinterpret_cast<const unsigned char*>(&value) + sizeof out->struct_size,
              size_bytes - sizeof out->struct_size);
}

// Copies a text into a fixed field; one that is too long is cut. Always ends with a zero byte.
template <size_t kBytes>
void CopyText(const std::string& text, char (&out)[kBytes]) {
  const size_t length = std::min(text.size(), kBytes - 1);
  std::memcpy(out, text.data(), length);
  out[length] = '\0';
}

faultline_status ToCStatus(absl::StatusCode code);
// Ok for FAULTLINE_OK; a value that is none becomes Internal.
absl::Status FromCStatus(faultline_status status, const std::string& message);
// Fills `error` (may be NULL) and returns the status.
faultline_status ReportStatus(const absl::Status& status, faultline_error* error);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_C_STRUCT_H_
