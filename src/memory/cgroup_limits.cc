#include "memory/cgroup_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>

#include "base/text.h"

namespace faultline {
namespace {

// Larger than any host: version 1 writes "no limit" as a number like this.
constexpr uint64_t kNoLimitBytes = uint64_t{1} << 60;

std::optional<uint64_t> ReadNumber(const std::string& path) {
  absl::StatusOr<std::string> text = ReadTextFile(path);
  if (!text.ok()) return std::nullopt;
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc()) return std::nullopt;  // "max"
  return number;
}

// Page cache in memory.stat, which makes way for the VM. Pages of tmpfs are not in these figures.
uint64_t DroppableBytes(const std::string& stat_text, bool version2) {
  std::istringstream lines(stat_text);
  uint64_t bytes = 0;
  std::string key;
  uint64_t value = 0;
  while (lines >> key >> value) {
    std::string_view name = key;
    // Version 1 gives a group's own figures, and those with its children as total_*.
    if (!version2) {
      if (!name.starts_with("total_")) continue;
      name.remove_prefix(6);
    }
    if (name == "active_file" || name == "inactive_file") bytes += value;
  }
  return bytes;
}

bool HasOption(std::string_view options, std::string_view wanted) {
  for (size_t at = 0; at <= options.size();) {
    size_t comma = std::min(options.find(',', at), options.size());
    if (options.substr(at, comma - at) == wanted) return true;
    at = comma + 1;
  }
  return false;
}

// The process's path in the hierarchy: "4:memory:/a" (version 1) or "0::/a" (version 2).
std::optional<std::string> PathIn(const std::string& cgroup, bool version2) {
  std::istringstream lines(cgroup);
  for (std::string line; std::getline(lines, line);) {
    size_t first = line.find(':');
    size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    bool match = version2 ? line.starts_with("0::") : HasOption(controllers, "memory");
    if (match) return line.substr(second + 1);
  }
  return std::nullopt;
}

}  // namespace

std::vector<CgroupPlace> ParseCgroupPlaces(const std::string& mountinfo,
                                           const std::string& cgroup) {
  std::vector<CgroupPlace> places;
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    // "36 35 0:31 /root /mount options [tags] - type source super-options"
    std::istringstream fields(line);
    std::string id, parent, device, root, mount, skipped, type, source, options;
    fields >> id >> parent >> device >> root >> mount;
    while (fields >> skipped && skipped != "-") {
    }
    fields >> type >> source >> options;
    bool version2 = type == "cgroup2";
    if (!version2 && !(type == "cgroup" && HasOption(options, "memory"))) continue;
    std::optional<std::string> path = PathIn(cgroup, version2);
    if (!path.has_value()) continue;
    // In a container the mount shows only what lies below `root`.
    if (root != "/" && path->starts_with(root)) path->erase(0, root.size());
    while (!path->empty() && path->back() == '/') path->pop_back();
    places.push_back({mount, *path, version2});
  }
  return places;
}

std::vector<RoomFacts::Cgroup> ReadCgroupLimits(const CgroupPlace& place) {
  std::vector<RoomFacts::Cgroup> limits;
  const char* limit_name = place.version2 ? "memory.max" : "memory.limit_in_bytes";
  const char* usage_name = place.version2 ? "memory.current" : "memory.usage_in_bytes";
  for (std::string path = place.path;;) {
    std::string group = place.mount + path + "/";
    std::optional<uint64_t> limit = ReadNumber(group + limit_name);
    std::optional<uint64_t> usage = ReadNumber(group + usage_name);
    if (limit.has_value() && usage.has_value() && *limit < kNoLimitBytes) {
      absl::StatusOr<std::string> stat = ReadTextFile(group + "memory.stat");
      uint64_t droppable = stat.ok() ? DroppableBytes(*stat, place.version2) : 0;
      limits.push_back({group + limit_name, *limit, *usage - std::min(*usage, droppable)});
    }
    if (path.empty()) return limits;
    path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

absl::StatusOr<std::vector<RoomFacts::Cgroup>> ReadMemoryLimitsOf(int process_id) {
  ASSIGN_OR_RETURN(std::string mountinfo, ReadTextFile("/proc/self/mountinfo"));
  ASSIGN_OR_RETURN(std::string cgroup, ReadTextFile(fmt::format("/proc/{}/cgroup", process_id)));
  std::vector<RoomFacts::Cgroup> all;
  for (const CgroupPlace& place : ParseCgroupPlaces(mountinfo, cgroup)) {
    std::vector<RoomFacts::Cgroup> limits = ReadCgroupLimits(place);
    all.insert(all.end(), limits.begin(), limits.end());
  }
  return all;
}

}  // namespace faultline
