#include "runtime/journal/durable_copies.h"

#include <algorithm>
#include <filesystem>

#include "base/text.h"

namespace faultline {

absl::StatusOr<std::string> BootId() {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile("/proc/sys/kernel/random/boot_id"));
  return text.substr(0, text.find('\n'));
}

std::vector<DurableCopy> CopiesOfEarlierBoots(const std::string& state_directory) {
  std::vector<DurableCopy> copies;
  const absl::StatusOr<std::string> now = BootId();
  if (!now.ok()) return copies;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(state_directory, error)) {
    if (entry.path().extension() != ".journal") continue;
    absl::StatusOr<JournalContent> content = ReadJournal(entry.path().string());
    if (!content.ok() || content->boot_id.empty() || content->boot_id == *now) continue;
    copies.push_back({entry.path().string(), *std::move(content)});
  }
  std::sort(copies.begin(), copies.end(),
            [](const DurableCopy& a, const DurableCopy& b) { return a.path < b.path; });
  return copies;
}

}  // namespace faultline
