// A file descriptor that closes itself.
#ifndef FAULTLINE_BASE_FILE_DESCRIPTOR_H_
#define FAULTLINE_BASE_FILE_DESCRIPTOR_H_

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "base/status.h"

namespace faultline {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  // Takes `fd` over; -1 means none.
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { Reset(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.Release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = other.Release();
    }
    return *this;
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // Gives the descriptor up without closing it.
  int Release() { return std::exchange(fd_, -1); }
  // Closes the descriptor, if there is one.
  void Reset();
  // A second descriptor (close-on-exec) of the same open file.
  absl::StatusOr<FileDescriptor> Duplicate() const;

 private:
  int fd_ = -1;
};

// Sets or clears O_NONBLOCK.
absl::Status SetNonBlocking(int fd, bool on);

// A connected pair of unix stream sockets, close-on-exec.
absl::StatusOr<std::pair<FileDescriptor, FileDescriptor>> MakeSocketPair();

// A close-on-exec unix stream socket connected to `path`. Errors name the path.
// Non-blocking: ResourceExhausted if its server has not taken those yet who came before.
absl::StatusOr<FileDescriptor> ConnectUnix(const std::string& path, int type);

}  // namespace faultline

#endif  // FAULTLINE_BASE_FILE_DESCRIPTOR_H_
