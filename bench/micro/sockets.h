// Blocking TCP for the floors.
#ifndef FAULTLINE_BENCH_MICRO_SOCKETS_H_
#define FAULTLINE_BENCH_MICRO_SOCKETS_H_

#include <cstddef>
#include <span>
#include <string>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline::bench::micro {

// "HOST:PORT" with a numeric IPv4 address; port 0: any. `*address` gets the real one.
absl::StatusOr<FileDescriptor> Listen(const std::string& wanted, std::string* address);
// The first that connects; TCP_NODELAY is set.
absl::StatusOr<FileDescriptor> Accept(const FileDescriptor& listener);
absl::StatusOr<FileDescriptor> Connect(const std::string& address);

// Whether who waits blocks in the kernel or asks again and again.
enum class Waiting : bool { kBlocking, kPolling };

// Between two questions of one who polls: lets another thread run if there is one. Two sides that
// poll and a guest are three threads, and the machine may have two cores.
void PauseWhilePolling();

// Sends all of `bytes`.
absl::Status SendAll(const FileDescriptor& socket, std::span<const std::byte> bytes);
// Fills `bytes`. OutOfRange if the peer ended before the first byte.
absl::Status ReceiveAll(const FileDescriptor& socket, std::span<std::byte> bytes,
                        Waiting waiting = Waiting::kBlocking);

}  // namespace faultline::bench::micro

#endif  // FAULTLINE_BENCH_MICRO_SOCKETS_H_
