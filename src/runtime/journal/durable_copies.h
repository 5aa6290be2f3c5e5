// What outlives a host's restart: copies of journals on disk, each of a migration that had not
// ended. Any thread.
#ifndef FAULTLINE_RUNTIME_JOURNAL_DURABLE_COPIES_H_
#define FAULTLINE_RUNTIME_JOURNAL_DURABLE_COPIES_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/journal/file_journal.h"

namespace faultline {

struct DurableCopy {
  std::string path;
  JournalContent content;
};

// What the kernel calls the time since this host was started, 36 characters.
absl::StatusOr<std::string> BootId();

// The copies in the folder that were made before this host was started last, by name: nobody can
// take those migrations up here. Files that cannot be read are left out; so are all of them where
// the folder cannot be.
std::vector<DurableCopy> CopiesOfEarlierBoots(const std::string& state_directory);

}  // namespace faultline

#endif  // FAULTLINE_RUNTIME_JOURNAL_DURABLE_COPIES_H_
