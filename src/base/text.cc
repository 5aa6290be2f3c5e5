#include "base/text.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "base/file_descriptor.h"

namespace faultline {

absl::StatusOr<uint64_t> ParseRate(std::string_view text) {
  struct Unit {
    std::string_view suffix;
    double bytes_per_second;
  };
  static constexpr std::array kUnits = {
      Unit{"", 1.0},
      Unit{"K", 1e3},
      Unit{"M", 1e6},
      Unit{"G", 1e9},
      Unit{"KiB", 1024.0},
      Unit{"MiB", 1048576.0},
      Unit{"GiB", 1073741824.0},
      Unit{"bit", 0.125},
      Unit{"Kbit", 125.0},
      Unit{"Mbit", 125e3},
      Unit{"Gbit", 125e6},
  };
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error == std::errc() && number > 0) {
    for (const Unit& unit : kUnits) {
      double rate = number * unit.bytes_per_second;
      if (suffix == unit.suffix && rate >= 1 && rate < 1e18) return static_cast<uint64_t>(rate);
    }
  }
  return absl::InvalidArgumentError(fmt::format(
      "'{}' is not a rate: give bytes a second (500M, 100MiB) or bits a second (1Gbit)", text));
}

absl::StatusOr<int64_t> ParseDurationUs(std::string_view text) {
  struct Unit {
    std::string_view suffix;
    double us;
  };
  static constexpr std::array kUnits = {Unit{"ms", 1e3}, Unit{"s", 1e6}, Unit{"min", 60e6},
                                        Unit{"h", 3600e6}};
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error == std::errc() && number > 0) {
    for (const Unit& unit : kUnits) {
      double us = number * unit.us;
      if (suffix == unit.suffix && us >= 1 && us < 1e18) return static_cast<int64_t>(us);
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("'{}' is not a time: give a number and its unit (300ms, 90s, 10min, 2h)", text));
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string HexEncode(std::span<const uint8_t> bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (uint8_t byte : bytes) fmt::format_to(std::back_inserter(text), "{:02x}", byte);
  return text;
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  static constexpr size_t kTextBytesMax = 1 << 20;
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, fmt::format("open '{}'", path));
  std::string text;
  std::array<char, 16384> chunk;
  // One byte beyond the limit tells a file of that size from a larger one.
  while (text.size() <= kTextBytesMax) {
    ssize_t got = read(fd.get(), chunk.data(), chunk.size());
    if (got < 0) return ErrnoStatus(errno, fmt::format("read '{}'", path));
    if (got == 0) return text;
    text.append(chunk.data(), static_cast<size_t>(got));
  }
  return absl::ResourceExhaustedError(fmt::format("'{}' is larger than 1 MiB", path));
}

}  // namespace faultline
