// The destination's slots that the source writes the push into.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_LANDINGS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_LANDINGS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "runtime/loop.h"
#include "transport/rdma/rdma_link.h"
#include "transport/rdma/rdma_rail_runs.h"
#include "transport/rdma/rdma_work_queue.h"
#include "transport/rdma/write_arrivals.h"

namespace faultline {

// The bulk thread.
//
// A slot is granted with a receive posted for it. What the source sends behind its WRITE completes
// that receive, which shows that the WRITE has been placed: on iWARP nothing else does.
class RdmaRailLandings : public RdmaRailRuns {
 public:
  // `links` by rail, of queue pairs that may never come; `counters` outlives this.
  RdmaRailLandings(Loop* bulk, const std::vector<std::shared_ptr<RdmaLink>>& links,
                   std::shared_ptr<RailBytes> counters, Listener* listener);

  // The source wants to write on `rail`: appends a grant of each of its slots. InvalidArgument: it
  // cannot, or has been granted them.
  absl::Status Open(uint64_t rail, std::vector<std::byte>* grants);
  // It writes a run of so many bytes. InvalidArgument names the field of the frame that fits
  // nothing here.
  absl::Status Name(const PageRun& run, size_t bytes, const WrittenSlot& at);

  bool has_whole() const override { return arrivals_.has_whole(); }
  Run first_whole() const override;
  absl::Status TakeFirst(std::vector<std::byte>* answer) override;
  bool idle() const override { return arrivals_.idle(); }
  void AwaitSoon() override;
  void Stop() override;

 private:
  struct Rail : RdmaWorkQueue::Listener {
    Rail(RdmaRailLandings* of, uint16_t at, Loop* loop, std::shared_ptr<RdmaLink> linked)
        : landings(of),
          number(at),
          link(std::move(linked)),
          queue(loop, "receiving what the source writes by RDMA", /*poll_ns_max=*/0, this) {}
    void OnWorkDone(uint32_t) override { landings->OnArrived(number); }
    void OnWorkFailed(absl::Status status) override {
      landings->listener_->OnRunsFailed(std::move(status));
    }

    RdmaRailLandings* const landings;
    const uint16_t number;
    const std::shared_ptr<RdmaLink> link;
    RdmaWorkQueue queue;
  };

  absl::Status Grant(const WrittenSlot& at, std::vector<std::byte>* grants);
  void OnArrived(uint16_t rail);

  const std::shared_ptr<RailBytes> counters_;
  Listener* const listener_;
  std::vector<std::unique_ptr<Rail>> rails_;
  WriteArrivals arrivals_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_RAIL_LANDINGS_H_
