#include "vmm/qemu/device_relay.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "runtime/confinement/capabilities.h"

namespace faultline {
namespace {

// As much as QEMU writes at one time. Buffers of 128 KiB and more are given back to the kernel
// after each use: to fault them in again took a fifth of the whole blackout.
constexpr size_t kPieceBytesMax = 32 << 10;

}  // namespace

DeviceStreamReader::DeviceStreamReader(FileDescriptor stream, Piece piece)
    : stream_(std::move(stream)), piece_(std::move(piece)), thread_([this] { Read(); }) {}

DeviceStreamReader::~DeviceStreamReader() {
  // Wakes the thread out of its read; QEMU sees a broken stream.
  shutdown(stream_.get(), SHUT_RDWR);
  thread_.join();
}

void DeviceStreamReader::Read() {
  KeepNoCapabilities();
  std::vector<std::byte> buffer(kPieceBytesMax);
  while (true) {
    ssize_t got = read(stream_.get(), buffer.data(), buffer.size());
    if (got > 0) {
      Give(std::span(buffer).first(static_cast<size_t>(got)));
    } else if (got == 0 || errno != EINTR) {
      error_number_ = got == 0 ? 0 : errno;
      break;
    }
  }
  memory_known_.Set();
  ended_.Set();
}

void DeviceStreamReader::Give(std::span<const std::byte> bytes) {
  using Found = StreamMemoryEnd::Found;
  const Found found = memory_.Add(bytes);
  const uint64_t memory_bytes = std::max(memory_.bytes_before(), bytes_given_) - bytes_given_;
  const size_t of_memory = found == Found::kNotYet
                               ? bytes.size()
                               : std::min(bytes.size(), static_cast<size_t>(memory_bytes));
  bytes_given_ += bytes.size();
  auto give = [this](StreamPart part, std::span<const std::byte> piece) {
    if (!piece.empty()) piece_(part, {piece.begin(), piece.end()});
  };
  give(StreamPart::kMemory, bytes.first(of_memory));
  if (found != Found::kNotYet) {
    memory_ended_ = found == Found::kEnd;
    memory_known_.Set();
  }
  give(StreamPart::kRest, bytes.subspan(of_memory));
}

absl::StatusOr<bool> DeviceStreamReader::WaitForMemoryEnd(const CancelEvent* cancel,
                                                          int64_t timeout_ms) {
  RETURN_IF_ERROR(WaitForDescriptor(memory_known_.fd(), POLLIN, cancel, Deadline::After(timeout_ms),
                                    "QEMU to stop the VM"));
  return memory_ended_.load();
}

absl::Status DeviceStreamReader::WaitForEnd(const CancelEvent* cancel, int64_t timeout_ms) {
  RETURN_IF_ERROR(WaitForDescriptor(ended_.fd(), POLLIN, cancel, Deadline::After(timeout_ms),
                                    "the end of QEMU's device state"));
  if (error_number_ == 0) return absl::OkStatus();
  return ErrnoStatus(error_number_, "read QEMU's device state");
}

DeviceStreamWriter::DeviceStreamWriter(FileDescriptor stream)
    : stream_(std::move(stream)), thread_([this] { Write(); }) {}

DeviceStreamWriter::~DeviceStreamWriter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.Set();
  wake_.notify_one();
  thread_.join();
}

void DeviceStreamWriter::Feed(std::span<const std::byte> bytes) {
  {
    std::lock_guard lock(mutex_);
    pieces_.emplace_back(bytes.begin(), bytes.end());
  }
  wake_.notify_one();
}

void DeviceStreamWriter::End() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wake_.notify_one();
}

void DeviceStreamWriter::Write() {
  KeepNoCapabilities();
  bool broken = false;
  while (true) {
    std::vector<std::byte> piece;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || ended_ || !pieces_.empty(); });
      if (stopping_ || pieces_.empty()) break;
      piece = std::move(pieces_.front());
      pieces_.pop_front();
    }
    broken = broken || !WritePiece(piece);
  }
  stream_.Reset();
}

bool DeviceStreamWriter::WritePiece(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t written = send(stream_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      if (!WaitForDescriptor(stream_.get(), POLLOUT, &stop_, Deadline::Never(), "QEMU to read")
               .ok()) {
        return false;
      }
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace faultline
