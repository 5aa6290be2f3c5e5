#include "transport/rdma/pin_access.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/file_descriptor.h"
#include "transport/rdma/memory_lock_limit.h"
#include "transport/rdma/page_tables.h"
#include "transport/rdma/verbs_handles.h"

namespace faultline {
namespace {

constexpr size_t kPages = 32;  // more than a read fault maps around
constexpr size_t kPinned = 16;

// Linux pins what is registered for reading only by write faults up to 6.1 and by read faults
// since, and those map the pages around as well (drivers/infiniband/core/umem.c: FOLL_WRITE;
// mm/memory.c: do_fault_around).
constexpr int kAccesses[] = {IBV_ACCESS_REMOTE_READ,
                             IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ};

struct Unmap {
  size_t bytes;
  void operator()(std::byte* memory) const { munmap(memory, bytes); }
};

// Whether registering one page of a file that is all there maps that page alone.
absl::StatusOr<bool> PinsAlone(ibv_pd* domain, int page_tables, int access) {
  const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const std::vector<char> ones(kPages * page_bytes, 1);
  const FileDescriptor file(memfd_create("faultline-pin", MFD_CLOEXEC));
  if (!file.valid() ||
      pwrite(file.get(), ones.data(), ones.size(), 0) != static_cast<ssize_t>(ones.size())) {
    return ErrnoStatus(errno, "make a file to try RDMA's pinning on");
  }
  void* mapped = mmap(nullptr, ones.size(), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (mapped == MAP_FAILED) return ErrnoStatus(errno, "map a file to try RDMA's pinning on");
  const std::unique_ptr<std::byte, Unmap> memory(static_cast<std::byte*>(mapped), {ones.size()});
  const VerbsRegion region(
      ibv_reg_mr(domain, memory.get() + kPinned * page_bytes, page_bytes, access));
  if (region == nullptr) return RegistrationError(errno, page_bytes, "a page to try it on");
  ASSIGN_OR_RETURN(const std::vector<bool> present,
                   ReadPresent(page_tables, {memory.get(), ones.size()}));
  return present[kPinned] && std::ranges::count(present, true) == 1;
}

}  // namespace

absl::StatusOr<int> ChoosePinAccess(ibv_pd* domain, int page_tables) {
  absl::Status refusal;
  for (const int access : kAccesses) {
    absl::StatusOr<bool> alone = PinsAlone(domain, page_tables, access);
    if (alone.ok() && *alone) return access;
    if (!alone.ok()) refusal = alone.status();
  }
  if (!refusal.ok()) return refusal;
  return absl::FailedPreconditionError(
      "this kernel maps more of the VM's memory than it pins for RDMA, so nobody could tell which "
      "pages may be read: use tcp://, and please report the kernel's version");
}

}  // namespace faultline
