#include "runtime/journal/kept_line.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/text.h"

namespace faultline {
namespace {

std::string HexOf(std::string_view text) {
  return HexEncode({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

std::optional<std::string> FromHex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string text;
  for (size_t i = 0; i < hex.size(); i += 2) {
    uint8_t byte = 0;
    auto [end, error] = std::from_chars(hex.data() + i, hex.data() + i + 2, byte, 16);
    if (error != std::errc() || end != hex.data() + i + 2) return std::nullopt;
    text.push_back(static_cast<char>(byte));
  }
  return text;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

absl::Status Bad(std::string_view part) {
  return absl::InvalidArgumentError(fmt::format("what was kept is not readable at '{}'", part));
}

absl::StatusOr<std::array<uint8_t, 16>> ParseId(std::string_view text) {
  std::optional<std::string> bytes = FromHex(text);
  std::array<uint8_t, 16> id;
  if (!bytes.has_value() || bytes->size() != id.size()) return Bad(text);
  std::copy(bytes->begin(), bytes->end(), id.begin());
  return id;
}

absl::StatusOr<KeptRegion> ParseRegion(std::string_view text) {
  const std::vector<std::string_view> parts = Split(text, ',');
  if (parts.size() != 7) return Bad(text);
  std::array<uint64_t, 5> numbers;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const char* end = parts[i].data() + parts[i].size();
    auto [stop, error] = std::from_chars(parts[i].data(), end, numbers[i]);
    if (error != std::errc() || stop != end) return Bad(text);
  }
  std::optional<std::string> name = FromHex(parts[5]);
  std::optional<std::string> path = FromHex(parts[6]);
  if (!name.has_value() || !path.has_value()) return Bad(text);
  // The end of what it covers in the file is computed from these.
  if (numbers[2] > std::numeric_limits<uint64_t>::max() - numbers[0]) return Bad(text);
  return KeptRegion{.layout = {*name, numbers[0], numbers[1]},
                    .path = *path,
                    .file_offset_bytes = numbers[2],
                    .device = numbers[3],
                    .inode = numbers[4]};
}

}  // namespace

std::string KeptLine(const KeptMigration& kept) {
  std::string line =
      fmt::format("{}{} {} {}", kKeptPrefix, HexEncode(kept.id), HexEncode(kept.token),
                  (kept.run ? 1 : 0) + (kept.integrity ? 2 : 0));
  for (const KeptRegion& region : kept.regions) {
    line += fmt::format(" {},{},{},{},{},{},{}", region.layout.size_bytes,
                        region.layout.page_size_bytes, region.file_offset_bytes, region.device,
                        region.inode, HexOf(region.layout.name), HexOf(region.path));
  }
  return line + "\n";
}

absl::StatusOr<KeptMigration> ParseKeptLine(std::string_view line) {
  const std::vector<std::string_view> parts = Split(line.substr(kKeptPrefix.size()), ' ');
  if (parts.size() < 4 || parts[2].size() != 1 || parts[2] < "0" || parts[2] > "3")
    return Bad(line);
  KeptMigration kept;
  ASSIGN_OR_RETURN(kept.id, ParseId(parts[0]));
  ASSIGN_OR_RETURN(kept.token, ParseId(parts[1]));
  const int flags = parts[2][0] - '0';
  kept.run = (flags & 1) != 0;
  kept.integrity = (flags & 2) != 0;
  for (size_t i = 3; i < parts.size(); ++i) {
    ASSIGN_OR_RETURN(KeptRegion region, ParseRegion(parts[i]));
    kept.regions.push_back(std::move(region));
  }
  MemoryLayout layout;
  for (const KeptRegion& region : kept.regions) layout.push_back(region.layout);
  RETURN_IF_ERROR(Annotate(ValidateLayout(layout), "what was kept is not readable"));
  return kept;
}

}  // namespace faultline
