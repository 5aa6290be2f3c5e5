// Where running migrations of one user on this host can be found.
//
// Files are ID.ROLE.KIND: .sock answers `status` and `cancel`, .journal says who owns the VM and
// what another process needs to go on, .command what the command was told, .json is the last object
// of a migration that has ended.
#ifndef FAULTLINE_CLI_RUN_DIRECTORY_H_
#define FAULTLINE_CLI_RUN_DIRECTORY_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "engine/session_report.h"

namespace faultline {

const char* RoleName(Role role);  // "source" | "destination"

struct SessionFile {
  std::string migration_id;
  Role role = Role::kSource;
  std::string path;
};

class RunDirectory {
 public:
  // Makes the directory (mode 0700) if it is missing. An empty `path` means /run/faultline for root
  // and $XDG_RUNTIME_DIR/faultline for others. Refuses one that others may use.
  static absl::StatusOr<RunDirectory> Open(const std::string& path);

  const std::string& path() const { return path_; }
  // `kind` without a dot: "sock", "journal", "command", "json", "qemu.log".
  std::string PathOf(const std::string& migration_id, Role role, const std::string& kind) const;
  // All files of one kind, in the order of their names.
  absl::StatusOr<std::vector<SessionFile>> List(const std::string& kind) const;
  // Removes what migrations left that ended more than a day ago, or before the last hundred: only
  // where the .json says that they ended, and nothing is left to take up. Failures are ignored: it
  // is tidying.
  void RemoveOld() const;

 private:
  explicit RunDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

// 32 hexadecimal digits from the kernel's random source.
absl::StatusOr<std::string> MakeMigrationId();

// "unix:PATH" or "PATH" to PATH. Errors name `option`, and say what the forms are.
absl::StatusOr<std::string> ParseSocketPath(const std::string& text, const std::string& option);

}  // namespace faultline

#endif  // FAULTLINE_CLI_RUN_DIRECTORY_H_
