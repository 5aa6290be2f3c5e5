#include "base/file_descriptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace faultline {

void FileDescriptor::Reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<FileDescriptor> FileDescriptor::Duplicate() const {
  int copy = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return ErrnoStatus(errno, "duplicate a file descriptor");
  return FileDescriptor(copy);
}

absl::Status SetNonBlocking(int fd, bool on) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return ErrnoStatus(errno, "read a descriptor's flags");
  int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags && fcntl(fd, F_SETFL, wanted) < 0) {
    return ErrnoStatus(errno, "set a descriptor's flags");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::pair<FileDescriptor, FileDescriptor>> MakeSocketPair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
    return ErrnoStatus(errno, "make a socket pair");
  }
  return std::make_pair(FileDescriptor(fds[0]), FileDescriptor(fds[1]));
}

absl::StatusOr<FileDescriptor> ConnectUnix(const std::string& path, int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        fmt::format("unix socket path '{}' is too long ({} bytes, at most {})", path, path.size(),
                    sizeof(address.sun_path) - 1));
  }
  memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "make a unix socket");
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
    if (errno == EAGAIN) {
      return absl::ResourceExhaustedError(
          fmt::format("connect to unix socket '{}': too many clients wait there already", path));
    }
    return ErrnoStatus(errno, fmt::format("connect to unix socket '{}'", path));
  }
  return fd;
}

}  // namespace faultline
