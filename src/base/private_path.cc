#include "base/private_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace faultline {
namespace {

constexpr mode_t kOwnersFolder = 0700;
constexpr mode_t kOwnersFile = 0600;
constexpr mode_t kOthersWrite = 0022;

}  // namespace

absl::StatusOr<FileDescriptor> OpenOwnFolder(const std::string& path, mode_t forbidden) {
  if (mkdir(path.c_str(), kOwnersFolder) < 0 && errno != EEXIST) {
    return ErrnoStatus(errno, fmt::format("make the folder '{}'", path));
  }
  FileDescriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!folder.valid() && errno != ENOTDIR && errno != ELOOP) {
    return ErrnoStatus(errno, fmt::format("open the folder '{}'", path));
  }
  if (!folder.valid() || fstat(folder.get(), &info) < 0 || info.st_uid != geteuid() ||
      (info.st_mode & forbidden) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("'{}' must be a folder of user {} (not a link to one) without the mode bits "
                    "{:04o}, or others could change what lies there: run 'chown' and 'chmod' on it",
                    path, geteuid(), forbidden));
  }
  return folder;
}

absl::StatusOr<FileDescriptor> MakePrivateFile(int folder, const std::string& path, int flags) {
  if (unlinkat(folder, path.c_str(), 0) < 0 && errno != ENOENT) {
    return ErrnoStatus(errno, fmt::format("replace '{}'", path));
  }
  FileDescriptor file(
      openat(folder, path.c_str(), flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kOwnersFile));
  if (!file.valid()) return ErrnoStatus(errno, fmt::format("create '{}'", path));
  RETURN_IF_ERROR(MakePrivate(file, path));
  return file;
}

absl::StatusOr<FileDescriptor> OpenOwnFile(const std::string& path, int flags) {
  FileDescriptor file(open(path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  if (!file.valid() || fstat(file.get(), &info) < 0) {
    return ErrnoStatus(errno, fmt::format("open '{}'", path));
  }
  if (!S_ISREG(info.st_mode) || (info.st_uid != geteuid() && info.st_uid != 0) ||
      (info.st_mode & kOthersWrite) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("'{}' must be a file of user {} that nobody else may write (it is user {}'s, "
                    "with mode {:04o})",
                    path, geteuid(), info.st_uid, info.st_mode & 07777));
  }
  return file;
}

absl::Status MakePrivate(const FileDescriptor& file, const std::string& path) {
  if (fchmod(file.get(), kOwnersFile) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, fmt::format("make '{}' private", path));
}

}  // namespace faultline
