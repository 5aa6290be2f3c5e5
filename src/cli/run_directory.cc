#include "cli/run_directory.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string_view>

#include "base/text.h"
#include "runtime/journal/file_journal.h"

namespace faultline {
namespace {

constexpr size_t kIdDigits = 32;
constexpr size_t kSocketPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr time_t kKeepEndedSeconds = 24 * 3600;
// Every command reads all of them when it begins.
constexpr size_t kEndedKeptMax = 100;

absl::StatusOr<std::string> DefaultPath() {
  if (geteuid() == 0) return std::string("/run/faultline");
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  if (runtime == nullptr || runtime[0] != '/') {
    return absl::FailedPreconditionError(
        "no place for this user's run directory: XDG_RUNTIME_DIR is not set; set it to a private "
        "directory on tmpfs, or give --run-directory DIR");
  }
  return std::string(runtime) + "/faultline";
}

bool IsMigrationId(std::string_view text) {
  return text.size() == kIdDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Splits "ID.ROLE.KIND"; false for a name of another form.
bool ParseName(const std::string& name, const std::string& kind, SessionFile* file) {
  if (name.size() < kIdDigits || !IsMigrationId(std::string_view(name).substr(0, kIdDigits))) {
    return false;
  }
  std::string rest = name.substr(kIdDigits);
  file->migration_id = name.substr(0, kIdDigits);
  for (Role role : {Role::kSource, Role::kDestination}) {
    if (rest == fmt::format(".{}.{}", RoleName(role), kind)) {
      file->role = role;
      return true;
    }
  }
  return false;
}

}  // namespace

const char* RoleName(Role role) { return role == Role::kSource ? "source" : "destination"; }

absl::StatusOr<RunDirectory> RunDirectory::Open(const std::string& path) {
  std::string chosen = path;
  if (chosen.empty()) {
    ASSIGN_OR_RETURN(chosen, DefaultPath());
  }
  if (chosen[0] != '/') {
    return absl::InvalidArgumentError(
        fmt::format("the run directory '{}' must be an absolute path", chosen));
  }
  if (mkdir(chosen.c_str(), 0700) < 0 && errno != EEXIST) {
    return ErrnoStatus(errno, fmt::format("make the run directory '{}'", chosen));
  }
  struct stat info;
  if (lstat(chosen.c_str(), &info) < 0) {
    return ErrnoStatus(errno, fmt::format("look at the run directory '{}'", chosen));
  }
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("the run directory '{}' must be a directory of user {} that nobody else may "
                    "enter: run 'chmod 700' on it, or give another with --run-directory",
                    chosen, geteuid()));
  }
  RunDirectory directory(std::move(chosen));
  std::string longest =
      directory.PathOf(std::string(kIdDigits, '0'), Role::kDestination, "sock.new");
  if (longest.size() > kSocketPathBytesMax) {
    return absl::InvalidArgumentError(fmt::format(
        "the run directory '{}' has too long a name for the sockets in it ({} bytes, at most {}): "
        "give a shorter one with --run-directory",
        directory.path(), longest.size(), kSocketPathBytesMax));
  }
  return directory;
}

std::string RunDirectory::PathOf(const std::string& migration_id, Role role,
                                 const std::string& kind) const {
  return fmt::format("{}/{}.{}.{}", path_, migration_id, RoleName(role), kind);
}

absl::StatusOr<std::vector<SessionFile>> RunDirectory::List(const std::string& kind) const {
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path_.c_str()), closedir);
  if (directory == nullptr) {
    return ErrnoStatus(errno, fmt::format("read the run directory '{}'", path_));
  }
  std::vector<SessionFile> files;
  while (const dirent* entry = readdir(directory.get())) {
    SessionFile file;
    if (!ParseName(entry->d_name, kind, &file)) continue;
    file.path = fmt::format("{}/{}", path_, entry->d_name);
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(),
            [](const SessionFile& a, const SessionFile& b) { return a.path < b.path; });
  return files;
}

void RunDirectory::RemoveOld() const {
  absl::StatusOr<std::vector<SessionFile>> ended = List("json");
  if (!ended.ok()) return;
  std::vector<std::pair<time_t, const SessionFile*>> by_age;
  for (const SessionFile& file : *ended) {
    struct stat info;
    if (stat(file.path.c_str(), &info) == 0) by_age.emplace_back(info.st_mtime, &file);
  }
  std::sort(by_age.begin(), by_age.end());
  const size_t too_many = by_age.size() - std::min(by_age.size(), kEndedKeptMax);
  const time_t now = time(nullptr);
  for (size_t i = 0; i < by_age.size(); ++i) {
    const auto& [ended_at, file] = by_age[i];
    if (i >= too_many && now - ended_at < kKeepEndedSeconds) continue;
    // Its command has failed, but the migration can be taken up again as long as both hosts live.
    absl::StatusOr<JournalContent> journal =
        ReadJournal(PathOf(file->migration_id, file->role, "journal"));
    // So can one whose destination never heard the source's decision; and where the hook is armed
    // still (whole, and not released) somebody has to let it go.
    if (journal.ok() && (journal->committed || journal->loaded) &&
        !EndsMigration(*journal->last_phase) && !journal->released()) {
      continue;
    }
    for (const char* kind : {"journal", "json", "command"}) {
      (void)unlink(PathOf(file->migration_id, file->role, kind).c_str());
    }
  }
}

absl::StatusOr<std::string> MakeMigrationId() {
  std::array<uint8_t, kIdDigits / 2> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return ErrnoStatus(errno, "read random bytes for the migration's id");
  }
  return HexEncode(bytes);
}

absl::StatusOr<std::string> ParseSocketPath(const std::string& text, const std::string& option) {
  static constexpr std::string_view kPrefix = "unix:";
  std::string path = text.rfind(kPrefix, 0) == 0 ? text.substr(kPrefix.size()) : text;
  if (path.empty() || path.size() > kSocketPathBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("{} '{}': give a unix socket's path of 1 to {} bytes, as unix:PATH or PATH",
                    option, text, kSocketPathBytesMax));
  }
  if (path.rfind("tcp:", 0) == 0) {
    return absl::InvalidArgumentError(fmt::format(
        "{} '{}': only unix sockets are taken (as unix:PATH), because a monitor on TCP is open to "
        "everybody who reaches it",
        option, text));
  }
  // Whoever goes on with the migration may stand in another folder.
  std::error_code ignored;
  const std::string absolute = std::filesystem::absolute(path, ignored).string();
  return absolute.empty() || absolute.size() > kSocketPathBytesMax ? path : absolute;
}

}  // namespace faultline
