// The journal's line of what is kept for another process. Internal to the journal.
#ifndef FAULTLINE_RUNTIME_JOURNAL_KEPT_LINE_H_
#define FAULTLINE_RUNTIME_JOURNAL_KEPT_LINE_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "seams/journal.h"

namespace faultline {

inline constexpr std::string_view kKeptPrefix = "kept ";

// With its line end.
std::string KeptLine(const KeptMigration& kept);
// `line` begins with kKeptPrefix and has no line end. InvalidArgument says which part is wrong.
absl::StatusOr<KeptMigration> ParseKeptLine(std::string_view line);

}  // namespace faultline

#endif  // FAULTLINE_RUNTIME_JOURNAL_KEPT_LINE_H_
