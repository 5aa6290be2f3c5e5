// Prints what tests/rdma sets beside perftest's figures and beside TCP: how long one page takes on
// a demand lane, idle and under a full push, how fast the bulk lane is, read and written, and what
// the source's threads work for a page that is demanded, and for the push.
#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <cstdio>

#include "contract/bulk_lane_fixture.h"
#include "transport/rdma/rdma_world.h"

namespace faultline::contract {
namespace {

constexpr MigrationId kId = {1};
constexpr SessionToken kToken = {2};
constexpr int64_t kTimeoutUs = 10'000'000;
constexpr uint64_t kFirst = 1500;  // pages that hold data follow
constexpr uint64_t kPageCount = 2500;
constexpr uint64_t kRunPages = kRdmaRunBytesMax / 4096;

struct SilentExporter : PageExporter::Listener {
  void OnDemand(PageId) override { ++demands; }
  void OnExporterFailed(absl::Status) override {}
  std::atomic<size_t> demands = 0;
};

// Takes runs without a look at them.
struct Sink : PushReceiver::Listener {
  bool OnRun(PageRun, std::span<const std::byte>, std::optional<uint64_t>) override { return true; }
  void OnRoundMark(PageFrameKind, uint32_t) override {}
  void OnPushFinished() override { finished = true; }
  void OnReceiverFailed(absl::Status status) override {
    std::printf("failed: %s\n", MessageOf(status).c_str());
    finished = true;
  }
  std::atomic<bool> finished = false;
};

// Reads one page after the other, until there are as many as wanted or `enough` holds.
struct OneByOne : PageReader::Listener {
  void OnPage(PageId, std::span<const std::byte>, std::optional<uint64_t>) override {
    took_ns.push_back(loop->NowNanos() - began_ns);
    if (took_ns.size() == wanted || (enough != nullptr && *enough)) {
      done = true;
      return;
    }
    Next();
  }
  void OnReaderFailed(absl::Status status) override {
    std::printf("failed: %s\n", MessageOf(status).c_str());
    done = true;
  }
  void Next() {
    began_ns = loop->NowNanos();
    const PageId page{0, kFirst + took_ns.size() % kPageCount};
    reader->Read({&page, 1});
  }
  PageReader* reader = nullptr;
  Loop* loop = nullptr;
  size_t wanted = 0;
  const std::atomic<bool>* enough = nullptr;
  int64_t began_ns = 0;
  std::vector<int64_t> took_ns;
  std::atomic<bool> done = false;
};

struct Lanes {
  SourceTransport::Lanes source;
  DestinationTransport::Lanes destination;
  std::atomic<int> open = 0;
};

void OpenLanes(TransportWorld& world, Lanes* lanes) {
  const LaneTerms terms{
      .id = kId, .token = kToken, .layout = TestLayout(), .memory = &SharedTestMemory()};
  world.RunOn(Place::kControl, [&] {
    world.destination().ExpectLanes(terms, kTimeoutUs, [lanes](auto given) {
      if (given.ok()) lanes->destination = *given;
      ++lanes->open;
    });
  });
  world.RunOn(Place::kSourceControl, [&] {
    world.source().OpenLanes(terms, kTimeoutUs, [lanes](auto given) {
      if (given.ok()) lanes->source = *given;
      ++lanes->open;
    });
  });
  world.WaitUntil([&] { return lanes->open == 2; });
}

// What the source's threads have worked so far, in the kernel too.
int64_t SourceCpuNs(TransportWorld& world) {
  int64_t sum_ns = 0;
  for (const Place place : {Place::kSourceControl, Place::kSourceDemand, Place::kSourceBulk}) {
    world.RunOn(place, [&] {
      timespec worked{};
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &worked);
      sum_ns += worked.tv_sec * 1'000'000'000 + worked.tv_nsec;
    });
  }
  return sum_ns;
}

double PartUs(std::vector<int64_t>& took_ns, double part) {
  if (took_ns.empty()) return 0;
  std::ranges::sort(took_ns);
  const auto index = static_cast<size_t>(part * static_cast<double>(took_ns.size()));
  return static_cast<double>(took_ns.at(index)) / 1e3;
}

// One side by side of what a page takes, with both ends started.
template <typename World>
class Figures {
 public:
  explicit Figures(World* world) : world_(*world) { OpenLanes(world_, &lanes_); }
  bool open() const {
    return lanes_.source.exporter != nullptr && lanes_.destination.reader != nullptr;
  }

  void Start() {
    world_.RunOn(Place::kSourceDemand,
                 [&] { lanes_.source.exporter->Start(&SharedTestMemory(), &exporter_); });
    world_.RunOn(Place::kDemand, [&] { lanes_.destination.reader->Start(&reader_); });
    world_.RunOn(Place::kBulk, [&] { lanes_.destination.push->Start(&sink_); });
    world_.Settle();
  }

  void MeasureDemand(const char* name, size_t pages) {
    const int64_t before_ns = SourceCpuNs(world_);
    Demand(pages, nullptr);
    const double worked_us = static_cast<double>(SourceCpuNs(world_) - before_ns) / 1e3;
    std::printf("%s_p50_us=%.1f\n%s_p99_us=%.1f\n%s_source_cpu_us=%.2f\n%s_asked_for=%zu\n", name,
                PartUs(reader_.took_ns, 0.5), name, PartUs(reader_.took_ns, 0.99), name,
                worked_us / static_cast<double>(pages), name, exporter_.demands.load());
  }

  // The bulk lane alone, then with somebody who waits for pages.
  void MeasureBulk(const char* name, uint64_t rounds, bool with_demand) {
    std::vector<PageRun> runs;
    for (uint64_t round = 0; round < rounds; ++round) {
      for (uint64_t first = kFirst; first + kRunPages <= 4096; first += kRunPages) {
        runs.push_back({0, first, kRunPages});
      }
    }
    const size_t run_count = runs.size();
    Pusher pusher(std::move(runs));
    const int64_t worked_before_ns = SourceCpuNs(world_);
    const int64_t began_ns = world_.loop(Place::kBulk).NowNanos();
    world_.RunOn(Place::kSourceBulk,
                 [&] { pusher.Start(lanes_.source.push, &SharedTestMemory()); });
    if (with_demand) {
      Demand(SIZE_MAX, &sink_.finished);
      std::printf("%s_demand_p50_us=%.1f\n%s_demand_p99_us=%.1f\n%s_demand_pages=%zu\n", name,
                  PartUs(reader_.took_ns, 0.5), name, PartUs(reader_.took_ns, 0.99), name,
                  reader_.took_ns.size());
    } else {
      world_.WaitUntil([&] { return sink_.finished.load(); });
      const auto ns = static_cast<double>(world_.loop(Place::kBulk).NowNanos() - began_ns);
      const double worked_ms = static_cast<double>(SourceCpuNs(world_) - worked_before_ns) / 1e6;
      std::printf("%s_mib_per_second=%.1f\n%s_source_cpu_ms=%.1f\n", name,
                  static_cast<double>(run_count * kRdmaRunBytesMax >> 20) / (ns / 1e9), name,
                  worked_ms);
    }
    world_.RunOn(Place::kSourceBulk, [&] { lanes_.source.push->Stop(); });
  }

  void Stop() {
    world_.RunOn(Place::kBulk, [&] { lanes_.destination.push->Stop(); });
    world_.RunOn(Place::kDemand, [&] { lanes_.destination.reader->Stop(); });
    world_.RunOn(Place::kSourceDemand, [&] { lanes_.source.exporter->Stop(); });
  }

 private:
  void Demand(size_t pages, const std::atomic<bool>* enough) {
    reader_.reader = lanes_.destination.reader;
    reader_.loop = &world_.loop(Place::kDemand);
    reader_.wanted = pages;
    reader_.enough = enough;
    reader_.took_ns.clear();
    reader_.done = false;
    world_.RunOn(Place::kDemand, [&] { reader_.Next(); });
    world_.WaitUntil([&] { return reader_.done.load(); });
  }

  World& world_;
  Lanes lanes_;
  SilentExporter exporter_;
  OneByOne reader_;
  Sink sink_;
};

}  // namespace
}  // namespace faultline::contract

int main() {
  using namespace faultline::contract;
  {
    TcpWorld world;
    Figures figures(&world);
    if (!figures.open()) return 1;
    figures.Start();
    figures.MeasureDemand("tcp", 2000);
    figures.Stop();
  }
  using faultline::RdmaBulk;
  for (const bool with_demand : {false, true}) {
    for (const RdmaBulk bulk : {RdmaBulk::kRead, RdmaBulk::kWrite}) {
      RdmaWorld world(faultline::RdmaOptions{.tuning = {.bulk = bulk}});
      Figures figures(&world);
      if (!figures.open()) return 1;
      figures.Start();
      const bool is_read = bulk == RdmaBulk::kRead;
      if (!with_demand && is_read) figures.MeasureDemand("demand", 3000);
      figures.MeasureBulk(is_read ? "bulk" : "written", with_demand ? 24 : 8, with_demand);
      figures.Stop();
    }
  }
  {
    RdmaWorld world(faultline::RdmaOptions{.rails = {{OtherRdmaHost(), 0}}});
    Figures figures(&world);
    if (!figures.open()) return 1;
    figures.Start();
    figures.MeasureBulk("rails_bulk", 8, /*with_demand=*/false);
    for (const faultline::RailFigures& rail : world.destination().rails()) {
      std::printf("rail %s: %lu bytes\n", rail.address.c_str(), rail.bytes);
    }
    figures.Stop();
  }
  return 0;
}
