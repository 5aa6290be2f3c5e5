#include "vmm/qemu/qemu_text.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <charconv>
#include <optional>

namespace faultline {
namespace {

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.push_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::vector<std::string_view> Words(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    size_t end = std::min(line.find_first_of(" \t"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

std::optional<uint64_t> Number(std::string_view text, int base) {
  if (base == 16 && text.starts_with("0x")) text.remove_prefix(2);
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return value;
}

std::optional<uint64_t> PageSize(std::string_view number, std::string_view unit) {
  std::optional<uint64_t> value = Number(number, 10);
  if (!value) return {};
  if (unit == "B") return *value;
  if (unit == "KiB") return *value << 10;
  if (unit == "MiB") return *value << 20;
  if (unit == "GiB") return *value << 30;
  return {};
}

std::optional<RamBlock> ParseRamBlock(std::string_view line) {
  std::vector<std::string_view> words = Words(line);
  size_t hex = 0;
  while (hex < words.size() && !words[hex].starts_with("0x")) ++hex;
  if (hex < 2 || hex + 3 > words.size()) return {};
  std::optional<uint64_t> page = PageSize(words[hex - 2], words[hex - 1]);
  std::optional<uint64_t> used = Number(words[hex + 1], 16);
  std::optional<uint64_t> total = Number(words[hex + 2], 16);
  if (!page || !used || !total) return {};
  RamBlock block{"", *page, *used, *total, 0};
  if (hex + 3 < words.size()) block.host_address = Number(words[hex + 3], 16).value_or(0);
  // The name may hold blanks: it is what stands before the page size.
  if (hex > 2) {
    const char* begin = words[0].data();
    const char* end = words[hex - 3].data() + words[hex - 3].size();
    block.name.assign(begin, static_cast<size_t>(end - begin));
  }
  return block;
}

}  // namespace

absl::StatusOr<std::vector<RamBlock>> ParseRamBlocks(std::string_view text) {
  std::vector<RamBlock> blocks;
  bool seen_header = false;
  for (std::string_view line : Lines(text)) {
    if (Words(line).empty()) continue;
    if (!std::exchange(seen_header, true) && line.find("Block Name") != std::string_view::npos) {
      continue;
    }
    std::optional<RamBlock> block = ParseRamBlock(line);
    if (!block) {
      return absl::InternalError(fmt::format(
          "cannot read QEMU's list of RAM blocks ('info ramblock'): the line '{}' has no known "
          "form; this QEMU is not supported",
          line));
    }
    if (!block->name.empty()) blocks.push_back(std::move(*block));
  }
  return blocks;
}

std::vector<ProcessMapping> ParseProcessMaps(std::string_view text) {
  std::vector<ProcessMapping> mappings;
  for (std::string_view line : Lines(text)) {
    std::vector<std::string_view> words = Words(line);
    if (words.size() < 5 || words[1].size() < 4) continue;
    size_t dash = words[0].find('-');
    size_t colon = words[3].find(':');
    if (dash == std::string_view::npos || colon == std::string_view::npos) continue;
    auto start = Number(words[0].substr(0, dash), 16);
    auto end = Number(words[0].substr(dash + 1), 16);
    auto offset = Number(words[2], 16);
    auto major_number = Number(words[3].substr(0, colon), 16);
    auto minor_number = Number(words[3].substr(colon + 1), 16);
    auto inode = Number(words[4], 10);
    if (!start || !end || !offset || !major_number || !minor_number || !inode) continue;
    ProcessMapping mapping;
    mapping.start = *start;
    mapping.end = *end;
    mapping.offset = *offset;
    mapping.shared = words[1][3] == 's';
    mapping.device =
        makedev(static_cast<unsigned>(*major_number), static_cast<unsigned>(*minor_number));
    mapping.inode = *inode;
    if (words.size() > 5) {
      mapping.path =
          std::string(words[5].data(), static_cast<size_t>(line.end() - words[5].begin()));
    }
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

uint64_t ParseLockedBytes(std::string_view text) {
  for (std::string_view line : Lines(text)) {
    std::vector<std::string_view> words = Words(line);
    if (words.size() >= 2 && words[0] == "VmLck:") return Number(words[1], 10).value_or(0) << 10;
  }
  return 0;
}

std::string ParseMountOptions(std::string_view text, uint64_t device) {
  std::string wanted = fmt::format("{}:{}", major(device), minor(device));
  for (std::string_view line : Lines(text)) {
    std::vector<std::string_view> words = Words(line);
    if (words.size() > 6 && words[2] == wanted) return std::string(words.back());
  }
  return "";
}

}  // namespace faultline
