// The bulk lane's READs, on whichever rail has room.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_READS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_READS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/status.h"
#include "runtime/loop.h"
#include "transport/rdma/rail_places.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/rdma_rail_runs.h"
#include "transport/rdma/rdma_work_queue.h"

namespace faultline {

// The bulk thread.
//
// Which rail reads a run is decided when it is posted, and not when it is named: so a rail that is
// slow holds up what it has under way and nothing else. Runs are given out as they are whole, which
// is not the order of their naming where there are several rails.
class RdmaRailReads : public RdmaRailRuns {
 public:
  // `links` by rail, of queue pairs that may never come; `counters` outlives this.
  RdmaRailReads(Loop* bulk, const std::vector<std::shared_ptr<RdmaLink>>& links,
                std::shared_ptr<RailBytes> counters, Listener* listener);

  void Start();

  // One more run to read, of so many bytes. InvalidArgument names the field of the frame that fits
  // nothing here.
  absl::Status Name(const PageRun& run, size_t bytes, const RailPlaces& places);
  // Posts what there is room for.
  absl::Status Post();

  bool has_whole() const override { return !whole_.empty(); }
  Run first_whole() const override;
  absl::Status TakeFirst(std::vector<std::byte>* answer) override;
  bool idle() const override { return outstanding_ == 0; }
  void AwaitSoon() override;
  void Stop() override;

 private:
  struct Named {
    PageRun run;
    size_t bytes = 0;
    RailPlaces places;
  };
  struct Rail : RdmaWorkQueue::Listener {
    Rail(RdmaRailReads* of, size_t at, Loop* loop, std::shared_ptr<RdmaLink> linked)
        : reads(of),
          number(at),
          link(std::move(linked)),
          queue(loop, "an RDMA READ from the source", /*poll_ns_max=*/0, this) {}
    void OnWorkDone(uint32_t slot) override { reads->OnReadDone(this, slot); }
    void OnWorkFailed(absl::Status status) override {
      reads->listener_->OnRunsFailed(std::move(status));
    }

    RdmaRailReads* const reads;
    const size_t number;
    const std::shared_ptr<RdmaLink> link;
    RdmaWorkQueue queue;
    std::vector<Named> in_slot;
    uint64_t bytes_given = 0;
  };
  struct Whole {
    Rail* rail = nullptr;
    uint32_t slot = 0;
  };

  void OnReadDone(Rail* rail, uint32_t slot);

  const std::shared_ptr<RailBytes> counters_;
  Listener* const listener_;
  std::vector<std::unique_ptr<Rail>> rails_;
  std::deque<Named> waiting_;  // not posted yet
  std::deque<Whole> whole_;
  size_t outstanding_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_READS_H_
