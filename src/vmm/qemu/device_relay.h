// The two ends of QEMU's device state stream: from the source's QEMU to a sink, from a queue into
// the destination's QEMU.
#ifndef FAULTLINE_VMM_QEMU_DEVICE_RELAY_H_
#define FAULTLINE_VMM_QEMU_DEVICE_RELAY_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "vmm/qemu/cancel_event.h"
#include "vmm/qemu/stream_memory_end.h"

namespace faultline {

// What QEMU calls its end of the stream: `fd:` and this is the URI of the migration.
inline constexpr const char kDeviceStreamName[] = "faultline-devices";

// What a piece of the stream is of.
enum class StreamPart : uint8_t {
  kMemory,  // sure to come before memory's last section (StreamMemoryEnd)
  kRest,
};

// Reads a stream to its end in pieces of at most 32 KiB. The destructor breaks the stream off.
class DeviceStreamReader {
 public:
  using Piece = std::function<void(StreamPart part, std::vector<std::byte> bytes)>;

  // `piece` runs on the reader's own thread, in order.
  DeviceStreamReader(FileDescriptor stream, Piece piece);
  ~DeviceStreamReader();

  // Any one thread. Waits until QEMU has begun the last section of its memory (StreamMemoryEnd).
  // False: it cannot be told where that is, or the stream has ended before.
  absl::StatusOr<bool> WaitForMemoryEnd(const CancelEvent* cancel, int64_t timeout_ms);
  // The same thread. Waits until the stream has ended and every piece has been given.
  absl::Status WaitForEnd(const CancelEvent* cancel, int64_t timeout_ms);

 private:
  void Read();
  void Give(std::span<const std::byte> bytes);

  const FileDescriptor stream_;
  const Piece piece_;
  StreamMemoryEnd memory_;    // its own thread
  uint64_t bytes_given_ = 0;  // the same
  CancelEvent memory_known_;
  std::atomic<bool> memory_ended_{false};  // set before memory_known_ is
  CancelEvent ended_;
  std::atomic<int> error_number_{0};  // set before ended_ is
  std::thread thread_;
};

// Writes what it is fed into a stream, from a thread of its own. What cannot be written any more
// (QEMU has ended) is dropped: the monitor tells why.
class DeviceStreamWriter {
 public:
  explicit DeviceStreamWriter(FileDescriptor stream);
  ~DeviceStreamWriter();

  // Queues without limit. Any thread.
  void Feed(std::span<const std::byte> bytes);
  // The stream ends after what was fed.
  void End();

 private:
  void Write();
  bool WritePiece(std::span<const std::byte> bytes);

  FileDescriptor stream_;  // closed by the thread at the end
  CancelEvent stop_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::vector<std::byte>> pieces_;  // guarded by mutex_
  bool ended_ = false;                         // guarded by mutex_
  bool stopping_ = false;                      // guarded by mutex_
  std::thread thread_;
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_DEVICE_RELAY_H_
