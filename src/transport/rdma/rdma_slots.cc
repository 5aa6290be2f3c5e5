#include "transport/rdma/rdma_slots.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "base/check.h"
#include "transport/rdma/memory_lock_limit.h"

namespace faultline {

absl::StatusOr<std::unique_ptr<RdmaSlots>> RdmaSlots::Make(const RdmaDomain& domain, size_t count,
                                                           size_t bytes_each, bool written) {
  // Shared, so that a child of this process does not take it away by copying on write.
  void* memory =
      mmap(nullptr, count * bytes_each, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoStatus(errno, "map memory for RDMA");
  std::unique_ptr<RdmaSlots> slots(
      new RdmaSlots(static_cast<std::byte*>(memory), count, bytes_each));
  const bool from_afar = written || domain.is_iwarp();
  const int access =
      IBV_ACCESS_LOCAL_WRITE | (from_afar ? static_cast<int>(IBV_ACCESS_REMOTE_WRITE) : 0);
  slots->region_.reset(ibv_reg_mr(domain.pd(), memory, count * bytes_each, access));
  if (slots->region_ == nullptr)
    return RegistrationError(errno, count * bytes_each, "landing slots");
  return slots;
}

RdmaSlots::RdmaSlots(std::byte* memory, size_t count, size_t bytes_each)
    : memory_(memory), count_(count), bytes_each_(bytes_each) {
  for (size_t slot = count; slot > 0; --slot) free_.push_back(static_cast<uint32_t>(slot - 1));
}

RdmaSlots::~RdmaSlots() {
  region_.reset();
  munmap(memory_, count_ * bytes_each_);
}

uint32_t RdmaSlots::Take() {
  FAULTLINE_CHECK(!free_.empty());
  const uint32_t slot = free_.back();
  free_.pop_back();
  return slot;
}

}  // namespace faultline
