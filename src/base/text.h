// Reading and writing the small texts of the command line: sizes, rates, hexadecimal ids.
#ifndef FAULTLINE_BASE_TEXT_H_
#define FAULTLINE_BASE_TEXT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace faultline {

// A rate in bytes a second: a number with K, M, G (powers of 1000), KiB, MiB, GiB, or bits a second
// with Kbit, Mbit, Gbit, bit. "1Gbit" is 125,000,000. Errors name the text and the accepted forms.
absl::StatusOr<uint64_t> ParseRate(std::string_view text);

// A time: a number with s, min or h. "90s" is 90,000,000 us. Errors name the text and the forms.
absl::StatusOr<int64_t> ParseDurationUs(std::string_view text);

// "512.0 MiB", "4.0 KiB", "17 B".
std::string FormatBytes(uint64_t bytes);

// Lower-case hexadecimal, two digits a byte.
std::string HexEncode(std::span<const uint8_t> bytes);

// The whole content of a small text file (at most 1 MiB); /proc files too.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace faultline

#endif  // FAULTLINE_BASE_TEXT_H_
