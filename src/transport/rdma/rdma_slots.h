// Memory that pages land in, before they are put into the VM.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_SLOTS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_SLOTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "transport/rdma/rdma_domain.h"

namespace faultline {

// Made and destroyed on the control thread, used by one other.
class RdmaSlots {
 public:
  // What this end's RDMA READs land in or, where `written`, the peer's WRITEs.
  static absl::StatusOr<std::unique_ptr<RdmaSlots>> Make(const RdmaDomain& domain, size_t count,
                                                         size_t bytes_each, bool written);
  ~RdmaSlots();
  RdmaSlots(const RdmaSlots&) = delete;
  RdmaSlots& operator=(const RdmaSlots&) = delete;

  size_t count() const { return count_; }
  size_t bytes_each() const { return bytes_each_; }
  bool empty() const { return free_.empty(); }  // none is free
  // A free one's number; there must be one.
  uint32_t Take();
  void Return(uint32_t slot) { free_.push_back(slot); }
  std::span<std::byte> bytes(uint32_t slot) const {
    return {memory_ + slot * bytes_each_, bytes_each_};
  }
  uint32_t local_key() const { return region_->lkey; }
  uint32_t remote_key() const { return region_->rkey; }  // of all of them

 private:
  RdmaSlots(std::byte* memory, size_t count, size_t bytes_each);

  std::byte* const memory_;
  const size_t count_;
  const size_t bytes_each_;
  std::vector<uint32_t> free_;
  VerbsRegion region_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_SLOTS_H_
