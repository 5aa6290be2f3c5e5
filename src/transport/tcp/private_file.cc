#include "transport/tcp/private_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file_descriptor.h"

namespace faultline {
namespace {

constexpr off_t kBytesMax = 1 << 20;
constexpr mode_t kForeign = S_IWGRP | S_IRWXO;

absl::Status CheckPrivate(const struct stat& file, const std::string& path) {
  if (!S_ISREG(file.st_mode)) {
    return absl::FailedPreconditionError(fmt::format("'{}' is not a regular file", path));
  }
  if (file.st_uid != 0 && file.st_uid != geteuid()) {
    return absl::PermissionDeniedError(fmt::format(
        "'{}' is a secret and belongs to user {}, who is neither root nor the one who runs this; "
        "run 'chown root {}', or make a new one if that user is not trusted",
        path, file.st_uid, path));
  }
  if ((file.st_mode & kForeign) != 0) {
    return absl::PermissionDeniedError(fmt::format(
        "'{}' is a secret and its mode {:04o} lets other users at it; run 'chmod 0600 {}' (0640 "
        "lets its group read it), and make a new one if somebody may have read it",
        path, file.st_mode & 07777, path));
  }
  return absl::OkStatus();
}

}  // namespace

SecretText::~SecretText() { OPENSSL_cleanse(text_.data(), text_.size()); }

absl::StatusOr<SecretText> ReadPrivateFile(const std::string& path) {
  // O_NONBLOCK: a FIFO in its place must not hold us.
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat file {};
  if (!fd.valid() || fstat(fd.get(), &file) != 0) {
    return ErrnoStatus(errno, fmt::format("open '{}'", path));
  }
  RETURN_IF_ERROR(CheckPrivate(file, path));
  if (file.st_size > kBytesMax) {
    return absl::FailedPreconditionError(
        fmt::format("'{}' has {} bytes, more than any key", path, file.st_size));
  }
  std::string text(static_cast<size_t>(file.st_size), '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, fmt::format("read '{}'", path));
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  text.resize(filled);
  return SecretText(std::move(text));
}

}  // namespace faultline
