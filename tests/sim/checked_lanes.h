// The destination's transport as the engine gets it: what the lanes ask for and bring is held
// against the rules, and answers may come twice.
#ifndef FAULTLINE_TESTS_SIM_CHECKED_LANES_H_
#define FAULTLINE_TESTS_SIM_CHECKED_LANES_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fakes/fake_transport.h"
#include "sim/canaries.h"
#include "sim/checked_memory.h"
#include "sim/lifeline.h"
#include "sim/random.h"
#include "sim/trace.h"
#include "sim/watch.h"

namespace faultline::sim {

// The demand lane. A page is asked for once at a time; its answer may come a second time, at once
// or later.
class CheckedReader : public PageReader, public PageReader::Listener {
 public:
  struct Parts {
    ManualExecutor* demand = nullptr;
    Lifeline* lifeline = nullptr;
    Trace* trace = nullptr;
    Watch* watch = nullptr;
    MemoryFacts* facts = nullptr;
  };

  // `inner` and all parts outlive it.
  CheckedReader(const Parts& parts, PageReader* inner, uint64_t twice_percent, uint64_t seed)
      : parts_(parts), inner_(inner), twice_percent_(twice_percent), random_(seed) {}

  void Start(PageReader::Listener* listener) override;
  void Read(std::span<const PageId> pages) override;
  void Stop() override;

  void OnPage(PageId page, std::span<const std::byte> bytes,
              std::optional<uint64_t> digest) override;
  void OnReaderFailed(absl::Status status) override;

 private:
  void Repeat(PageId page, std::span<const std::byte> bytes, std::optional<uint64_t> digest);

  const Parts parts_;
  PageReader* const inner_;
  const uint64_t twice_percent_;
  Random random_;
  PageReader::Listener* listener_ = nullptr;
  std::set<PageId> asked_;  // and not answered
  std::vector<std::unique_ptr<Timer>> repeats_;
};

class CheckedDestinationTransport : public DestinationTransport {
 public:
  // `inner` and what `parts` names outlive it.
  CheckedDestinationTransport(DestinationTransport* inner, const CheckedReader::Parts& parts,
                              uint64_t answer_twice_percent, uint64_t seed, Saboteur* saboteur)
      : inner_(inner),
        parts_(parts),
        answer_twice_percent_(answer_twice_percent),
        seed_(seed),
        saboteur_(saboteur) {}

  absl::Status Listen(Arrived arrived) override {
    return inner_->Listen(saboteur_->BreakArrivals(std::move(arrived)));
  }
  std::string address() const override { return inner_->address(); }
  void ExpectLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  uint64_t bytes_wire() const override { return inner_->bytes_wire(); }
  std::string name() const override { return inner_->name(); }

 private:
  Lanes Wrap(Lanes lanes, const MemoryLayout& layout);

  DestinationTransport* const inner_;
  const CheckedReader::Parts parts_;
  const uint64_t answer_twice_percent_;
  const uint64_t seed_;
  Saboteur* const saboteur_;
  std::unique_ptr<CheckedReader> reader_;
};

// A push order that gives some runs twice, as after a push that may or may not have arrived.
class RepeatingOrder : public PushOrder {
 public:
  RepeatingOrder(std::unique_ptr<PushOrder> inner, uint64_t twice_percent, uint64_t seed)
      : inner_(std::move(inner)), twice_percent_(twice_percent), random_(seed) {}

  void SetHistory(const WriteHistory* history) override { inner_->SetHistory(history); }
  void Start(const MemoryLayout& layout, const AllocationMap& map) override {
    last_ = {};
    inner_->Start(layout, map);
  }
  void OnDemand(PageId page) override { inner_->OnDemand(page); }
  PageRun Next(uint64_t bytes_max) override {
    if (!last_.empty() && random_.Chance(twice_percent_)) return std::exchange(last_, {});
    return last_ = inner_->Next(bytes_max);
  }
  uint64_t pages_left() const override { return inner_->pages_left(); }

 private:
  const std::unique_ptr<PushOrder> inner_;
  const uint64_t twice_percent_;
  Random random_;
  PageRun last_;
};

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_CHECKED_LANES_H_
