// A connection to the hook on which a test sends whatever bytes it likes.
#ifndef FAULTLINE_TESTS_HOOK_RAW_HOOK_H_
#define FAULTLINE_TESTS_HOOK_RAW_HOOK_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "hook/hook_protocol.h"

namespace faultline {

class RawHook {
 public:
  explicit RawHook(const std::string& path);

  // Sends one packet with descriptors. False: the hook has closed the connection.
  bool Send(std::span<const uint8_t> bytes, std::span<const int> descriptors = {});
  // The header of the next answer, in host order; none when closed or nothing comes in time.
  std::optional<HookHeader> Receive(int timeout_ms);
  // Send, then Receive.
  std::optional<HookHeader> Ask(std::span<const uint8_t> bytes,
                                std::span<const int> descriptors = {});
  // Says HELLO with a version range.
  std::optional<HookHeader> Hello(uint16_t version_min, uint16_t version_max);

 private:
  FileDescriptor socket_;
};

// A well-formed message.
std::vector<uint8_t> MakeMessage(uint16_t version, uint16_t type,
                                 std::span<const uint8_t> payload = {});

// An ARM message in wire order.
std::vector<uint8_t> MakeArm(uint32_t flags, uint64_t features,
                             const std::vector<HookRegion>& regions);

}  // namespace faultline

#endif  // FAULTLINE_TESTS_HOOK_RAW_HOOK_H_
