// The source's memory, registered piece by piece while its VM runs, for RDMA READ and nothing else.
#ifndef FAULTLINE_TRANSPORT_RDMA_REGISTERED_MEMORY_H_
#define FAULTLINE_TRANSPORT_RDMA_REGISTERED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "seams/source_memory.h"
#include "transport/rdma/rdma_domain.h"
#include "transport/rdma/readable_pages.h"
#include "transport/rdma/verbs_handles.h"

namespace faultline {

// Only pages that hold data are registered: pinning a hole would allocate it, on both hosts.
//
// A registration pins the pages that were there when it was made. What the guest gives up
// afterwards is taken out of the file and out of this process's page tables alike, and nobody but
// the registration itself has touched the mapping: a page that stands in the page tables once the
// VM stands still is the one that is pinned (docs/adr/0024-stale-pins.md).
class RegisteredMemory {
 public:
  // Maps `memory`, which outlives this, by its `view`, which nothing else that lives uses, and
  // reads which pages there are. `page_tables` is this process's /proc/self/pagemap, and outlives
  // this too. FailedPrecondition: no access pins what it maps and nothing else. Control thread.
  static absl::StatusOr<std::unique_ptr<RegisteredMemory>> Make(std::shared_ptr<RdmaDomain> domain,
                                                                SourceMemory* memory, size_t view,
                                                                int page_tables);

  // Registers the next piece, up to 64 MiB; false: all of it is. Any one thread; tens of
  // milliseconds.
  absl::StatusOr<bool> RegisterSome();
  uint64_t bytes_registered() const { return bytes_registered_; }
  uint64_t bytes_wanted() const { return bytes_wanted_; }

  // Once the VM stands still for good: the pages that a READ brings as they are. Found out by the
  // first call (milliseconds for a GiB); constant from then on. Any thread.
  const ReadablePages& Readable();

  // What this end's own device takes in place of the key of a place that is readable.
  uint32_t local_key(uint32_t key) const { return local_keys_.at(key); }

  const RdmaDomain& domain() const { return *domain_; }

 private:
  struct Piece {
    PageRun run;
    std::span<std::byte> bytes;
    VerbsRegion region;
  };

  RegisteredMemory(std::shared_ptr<RdmaDomain> domain, const SourceMemory* memory, int page_tables,
                   int access)
      : domain_(std::move(domain)), memory_(memory), page_tables_(page_tables), access_(access) {}
  void Plan(RegionIndex region, const PageRangeSet& pages, std::span<std::byte> bytes);
  void KeepLongest();
  // Adds the stretches of `piece` that stand in the page tables.
  absl::Status AddPresent(const Piece& piece, ReadablePages* readable) const;

  const std::shared_ptr<RdmaDomain> domain_;  // goes after the pieces
  const SourceMemory* const memory_;
  const int page_tables_;
  const int access_;  // with which it is registered
  std::vector<Piece> pieces_;
  size_t next_ = 0;  // not registered yet
  uint64_t bytes_wanted_ = 0;
  uint64_t bytes_registered_ = 0;
  std::once_flag readable_once_;
  std::unordered_map<uint32_t, uint32_t> local_keys_;  // by the key that permits READs
  std::optional<ReadablePages> readable_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_REGISTERED_MEMORY_H_
