// What an engine does with a userfaultfd, in the fewest calls, for tests.
#ifndef FAULTLINE_TESTS_HOOK_FAULT_SERVER_H_
#define FAULTLINE_TESTS_HOOK_FAULT_SERVER_H_

#include <cstdint>
#include <optional>

#include "memory/hook_client.h"

namespace faultline {

// The address of the next fault; none if there is none in time.
std::optional<uint64_t> NextFault(const FileDescriptor& uffd, int timeout_ms);

// Installs one page filled with `value` at the page of `address`; 0 or errno.
int InstallPage(const FileDescriptor& uffd, uint64_t address, uint64_t page_size_bytes,
                uint8_t value);

// Wakes everything that waits in the region.
void WakeRegion(const FileDescriptor& uffd, const ArmedRegion& region);

// A region request for the whole of `path`.
HookRegionRequest RegionOf(const std::string& path);

// A memfd to be kept by the hook, with `text` in it.
FileDescriptor MakePageState(const std::string& text);

}  // namespace faultline

#endif  // FAULTLINE_TESTS_HOOK_FAULT_SERVER_H_
