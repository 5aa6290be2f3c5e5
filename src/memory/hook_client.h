// The engine's end of the hook's socket: asks faultline-qemu.so inside the hypervisor to register
// RAM with a userfaultfd and to hand that out. The protocol is docs/hook-protocol.md.
#ifndef FAULTLINE_MEMORY_HOOK_CLIENT_H_
#define FAULTLINE_MEMORY_HOOK_CLIENT_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/file_descriptor.h"
#include "hook/hook_protocol.h"

namespace faultline {

// A range of a RAM file, as fstat() of the file names it.
struct HookRegionRequest {
  std::string name;  // for error sentences only
  dev_t device = 0;
  ino_t inode = 0;
  uint64_t file_offset_bytes = 0;
  uint64_t size_bytes = 0;
  uint64_t page_size_bytes = 4096;
};

// A region that the hook has registered. `region.name` is empty when it comes from Take().
struct ArmedRegion {
  HookRegionRequest region;
  uint64_t host_address = 0;  // in the hypervisor's process: what uffd events and ioctls speak of
  uint64_t ioctls = 0;        // bits of the ioctls allowed on the range, from UFFDIO_REGISTER
};

struct ArmedRegions {
  FileDescriptor uffd;               // non-blocking; the hook keeps a second one open
  FileDescriptor page_state;         // from Take() only
  uint64_t features = 0;             // UFFD_FEATURE_* that the kernel offers
  std::vector<ArmedRegion> regions;  // in the order of Arm()
};

// Regions whose writes the hook lets be seen.
struct TrackedRegions {
  FileDescriptor uffd;     // asynchronous write protection; the hook keeps a second one open
  FileDescriptor pagemap;  // of the hypervisor's process
  std::vector<ArmedRegion> regions;  // in the order of Track()
};

// Regions whose pages are looked at from outside.
struct InspectedRegions {
  FileDescriptor pagemap;            // /proc/PID/pagemap of the hypervisor's process
  FileDescriptor clear_refs;         // /proc/PID/clear_refs, open for writing
  std::vector<ArmedRegion> regions;  // in the order of Inspect(); `ioctls` is 0
};

// What the hook said of itself.
struct HookInfo {
  uint16_t version = 0;  // of the protocol, negotiated
  std::string release;   // of the hook, for people
  pid_t process_id = 0;  // of the hypervisor, as this process' pid namespace numbers it
  uid_t user_id = 0;     // who made the socket, by the kernel's word
  bool armed = false;    // when the connection was made
};

// One connection to a hook. While it lives, no other engine can talk to that hook.
//
// Blocking: each call waits at most the timeout. After an error of the connection itself
// (Unavailable, DeadlineExceeded) make a new one. Thread safety: none; any one thread at a time.
class HookClient {
 public:
  // Connects to the hook's socket and says HELLO. `timeout_ms` holds for this and each later call.
  // NotFound: no such socket. Unavailable: nobody serves it, or another engine is connected.
  // FailedPrecondition: something else listens there, or no common version.
  // PermissionDenied: wrong user. All as sentences that name `path` and what mends it.
  static absl::StatusOr<HookClient> Connect(const std::string& path, int timeout_ms);

  HookClient(HookClient&&) = default;
  HookClient& operator=(HookClient&&) = default;

  const HookInfo& info() const { return info_; }

  // Registers all `regions` (1 to HOOK_REGIONS_MAX) for MISSING faults, or none. The hook keeps
  // `page_state_memfd` open for a later engine's Take(). `features` are the UFFD_FEATURE_* bits
  // that the userfaultfd must have. /dev/userfaultfd is passed along where this process may open
  // it, because the hypervisor's often may not.
  absl::StatusOr<ArmedRegions> Arm(std::span<const HookRegionRequest> regions,
                                   const FileDescriptor& page_state_memfd, uint64_t features);

  // What an engine before this one armed: its userfaultfd, page-state memfd and regions.
  // FailedPrecondition when nothing is armed.
  absl::StatusOr<ArmedRegions> Take();

  // Unregisters everything and makes the hook forget it. Pages still missing read as zeros from
  // then on: only for a VM that is whole or about to be thrown away.
  absl::Status Release();

  // Registers all `regions` (1 to HOOK_REGIONS_MAX) for write protection, or none; nothing is
  // protected yet. Ends with Untrack or this connection. Unimplemented: the hook is too old.
  absl::StatusOr<TrackedRegions> Track(std::span<const HookRegionRequest> regions,
                                       uint64_t features);
  // Takes all protection away. NotFound: nothing is tracked.
  absl::Status Untrack();

  // Where `regions` are, and files to see what happens to their pages. Unimplemented: the hook is
  // too old.
  absl::StatusOr<InspectedRegions> Inspect(std::span<const HookRegionRequest> regions);

  // Ok if the hook answers.
  absl::Status Ping();

 private:
  // A reply whose header is checked and whose status is Ok, in host order.
  struct Reply {
    std::vector<uint8_t> payload;
    std::vector<FileDescriptor> descriptors;
  };

  HookClient(std::string path, FileDescriptor socket, int timeout_ms);

  absl::Status Hello();
  // Sends a request and waits for its reply. `names` are the regions that a status may point at.
  absl::StatusOr<Reply> Call(HookType type, std::span<const uint8_t> payload,
                             std::span<const int> descriptors,
                             std::span<const HookRegionRequest> names);
  absl::Status Send(std::span<const uint8_t> message, std::span<const int> descriptors);
  absl::StatusOr<HookHeader> Receive(Reply& reply, int64_t deadline_ms);
  // The request of ARM, TRACK and INSPECT; for the first two `descriptors` and /dev/userfaultfd,
  // where it can be had, go along.
  absl::StatusOr<Reply> AskToRegister(HookType type, std::span<const HookRegionRequest> regions,
                                      uint64_t features, std::vector<int> descriptors);
  // `names`: those that were asked for; empty if unknown.
  absl::StatusOr<std::vector<ArmedRegion>> ParseRegions(const Reply& reply, size_t descriptor_count,
                                                        std::span<const HookRegionRequest> names,
                                                        uint64_t* features) const;
  absl::Status NotAHook(const std::string& why) const;

  std::string path_;
  FileDescriptor socket_;
  int timeout_ms_;
  uint32_t sequence_ = 0;
  HookInfo info_;
};

// The sentence for a refusal. `header` is the reply's, in host order.
absl::Status HookRefusal(const std::string& path, const HookHeader& header,
                         std::span<const HookRegionRequest> regions);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_HOOK_CLIENT_H_
