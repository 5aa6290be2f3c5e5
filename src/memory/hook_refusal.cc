// The hook's statuses as sentences.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "memory/hook_client.h"

namespace faultline {
namespace {

std::string RegionName(const HookHeader& header, std::span<const HookRegionRequest> regions) {
  if (header.detail >= regions.size()) return fmt::format("region {}", header.detail);
  const HookRegionRequest& region = regions[header.detail];
  return region.name.empty() ? fmt::format("region {}", header.detail)
                             : fmt::format("region '{}'", region.name);
}

// The cause and the mend for a region that the hook did not find as it must be.
absl::Status RegionRefusal(const HookHeader& header, const std::string& region) {
  switch (header.status) {
    case kHookStatusRegionNotMapped:
      return absl::NotFoundError(fmt::format(
          "{} is not mapped in the hypervisor's process; check that the hook's socket and the RAM "
          "file belong to the same VM",
          region));
    case kHookStatusRegionPrivate:
      return absl::FailedPreconditionError(
          fmt::format("{} is mapped privately; its memory backend needs share=on", region));
    case kHookStatusRegionNotCovered:
      return absl::FailedPreconditionError(fmt::format(
          "{} is not mapped whole, as one continuous range, in the hypervisor's process; "
          "its size must be the memory backend's",
          region));
    default:
      return absl::FailedPreconditionError(
          fmt::format("{} is mapped more than once in the hypervisor's process; a second mapping "
                      "would see missing pages as zeros",
                      region));
  }
}

absl::Status RegisterRefusal(const HookHeader& header, const std::string& region) {
  int error_number = static_cast<int>(header.error_number);
  if (error_number == EINVAL) {
    return absl::FailedPreconditionError(
        fmt::format("the kernel cannot register {} with userfaultfd (EINVAL): its file is not on "
                    "tmpfs or hugetlbfs, or its page size is another; put mem-path on /dev/shm or "
                    "on a hugetlbfs mount",
                    region));
  }
  if (error_number == EBUSY) {
    return absl::FailedPreconditionError(
        fmt::format("{} is registered with another userfaultfd already (EBUSY); is QEMU's own "
                    "postcopy-ram on?",
                    region));
  }
  return ErrnoStatus(error_number, fmt::format("register {} with userfaultfd", region));
}

absl::Status NotPermitted(const HookHeader& header) {
  return absl::PermissionDeniedError(fmt::format(
      "the hypervisor may not make a userfaultfd ({}); run faultline as root so that it can pass "
      "/dev/userfaultfd, or give the hypervisor's user access to that file, or set sysctl "
      "vm.unprivileged_userfaultfd=1",
      strerror(static_cast<int>(header.error_number))));
}

absl::Status CauseOf(const HookHeader& header, std::span<const HookRegionRequest> regions) {
  switch (header.status) {
    case kHookStatusBadRequest:
      return absl::InternalError(
          fmt::format("the hook refused the request as malformed at byte {}", header.detail));
    case kHookStatusUnsupported:
      return absl::UnimplementedError(
          fmt::format("the hook is older and does not know this request ({}); restart the "
                      "hypervisor with a newer faultline-qemu.so",
                      header.detail));
    case kHookStatusVersion:
      return absl::FailedPreconditionError(fmt::format(
          "the hook speaks protocol versions {} to {}, this faultline {} to {}; use a faultline "
          "and "
          "a faultline-qemu.so of the same release",
          header.detail >> 16, header.detail & 0xffff, HOOK_VERSION_MIN, HOOK_VERSION_MAX));
    case kHookStatusBusy:
      return absl::UnavailableError(
          fmt::format("the hook is busy with another client, process {}; one faultline at a time "
                      "can hold it",
                      header.detail));
    case kHookStatusNotAllowed:
      return absl::PermissionDeniedError(
          fmt::format("the hook talks only to user id {} and root; run faultline as one of them",
                      header.detail));
    case kHookStatusHelloFirst:
      return absl::InternalError("the hook wants HELLO first");
    case kHookStatusAlreadyArmed:
      return absl::AlreadyExistsError(
          "the hook is armed already, by a faultline that went away; take over what it left, or "
          "restart the destination hypervisor");
    case kHookStatusAlreadyTracked:
      return absl::AlreadyExistsError("the hook tracks this VM's memory already");
    case kHookStatusNotTracked:
      return absl::NotFoundError("the hook tracks no memory");
    case kHookStatusNotArmed:
      return absl::NotFoundError("the hook is not armed: there is nothing to take over");
    case kHookStatusRegionNotMapped:
    case kHookStatusRegionPrivate:
    case kHookStatusRegionNotCovered:
    case kHookStatusRegionMappedTwice:
      return RegionRefusal(header, RegionName(header, regions));
    case kHookStatusNotPermitted:
      return NotPermitted(header);
    case kHookStatusFeatureMissing:
      return absl::FailedPreconditionError(
          fmt::format("the kernel lacks a userfaultfd feature that is needed (it offers {:#x}): "
                      "post-copy needs Linux 4.14 or later, dirty tracking 6.7 or later",
                      header.detail));
    case kHookStatusRegisterRefused:
      return RegisterRefusal(header, RegionName(header, regions));
    case kHookStatusDescriptors:
      return absl::InternalError(fmt::format(
          "the hook got {} file descriptors that do not fit the request", header.detail));
    case kHookStatusSystem:
      return ErrnoStatus(static_cast<int>(header.error_number), "a system call of the hook");
    default:
      return absl::InternalError(
          fmt::format("the hook answered with status {}, which this faultline does not know; use "
                      "the newer faultline",
                      header.status));
  }
}

}  // namespace

absl::Status HookRefusal(const std::string& path, const HookHeader& header,
                         std::span<const HookRegionRequest> regions) {
  return Annotate(CauseOf(header, regions), fmt::format("hook '{}'", path));
}

}  // namespace faultline
