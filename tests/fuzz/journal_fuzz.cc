// The text of a journal -> what a migration had come to. Its lines, written again, read alike.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "runtime/journal/file_journal.h"
#include "runtime/journal/kept_line.h"

namespace faultline {
namespace {

void CheckKept(const KeptMigration& kept) {
  MemoryLayout layout;
  for (const KeptRegion& region : kept.regions) {
    layout.push_back(region.layout);
    FAULTLINE_CHECK(region.file_offset_bytes + region.layout.size_bytes >=
                    region.file_offset_bytes);
  }
  FAULTLINE_CHECK(ValidateLayout(layout).ok());
  std::string line = KeptLine(kept);
  FAULTLINE_CHECK(line.ends_with('\n'));
  line.pop_back();
  const absl::StatusOr<KeptMigration> again = ParseKeptLine(line);
  FAULTLINE_CHECK(again.ok() && *again == kept);
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<JournalContent> content = ParseJournal(text);
  if (!content.ok()) {
    FAULTLINE_CHECK(absl::IsInvalidArgument(content.status()));
    return 0;
  }
  FAULTLINE_CHECK(!content->migration_id.empty());
  FAULTLINE_CHECK(!(content->loaded || content->committed) || content->last_phase.has_value());
  if (content->kept.has_value()) CheckKept(*content->kept);
  // A line that its writer did not finish does not count.
  const absl::StatusOr<JournalContent> whole = ParseJournal(text.substr(0, text.rfind('\n') + 1));
  FAULTLINE_CHECK(whole.ok() && whole->last_phase == content->last_phase &&
                  whole->committed == content->committed && whole->kept == content->kept);
  return 0;
}
