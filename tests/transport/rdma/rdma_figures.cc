// Prints how long one page takes on an idle demand lane, and how fast the bulk lane is.
#include <algorithm>
#include <cstdio>

#include "contract/bulk_lane_fixture.h"
#include "transport/rdma/rdma_world.h"

namespace faultline::contract {
namespace {

constexpr MigrationId kId = {1};
constexpr SessionToken kToken = {2};
constexpr int64_t kTimeoutUs = 10'000'000;
constexpr size_t kPages = 3000;
constexpr uint64_t kBulkRounds = 8;

struct SilentExporter : PageExporter::Listener {
  void OnDemand(PageId) override { ++demands; }
  void OnExporterFailed(absl::Status) override {}
  std::atomic<size_t> demands = 0;
};

// Reads one page after the other.
struct OneByOne : PageReader::Listener {
  void OnPage(PageId, std::span<const std::byte>, std::optional<uint64_t>) override {
    took_ns.push_back(loop->NowNanos() - began_ns);
    if (took_ns.size() == kPages) {
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
    const PageId page{0, 1500 + took_ns.size() % 2500};
    reader->Read({&page, 1});
  }
  PageReader* reader = nullptr;
  Loop* loop = nullptr;
  int64_t began_ns = 0;
  std::vector<int64_t> took_ns;
  std::atomic<bool> done = false;
};

struct Lanes {
  SourceTransport::Lanes source;
  DestinationTransport::Lanes destination;
  std::atomic<int> open = 0;
};

void OpenLanes(RdmaWorld& world, Lanes* lanes) {
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

void MeasureDemand(RdmaWorld& world, const Lanes& lanes) {
  SilentExporter exporter;
  OneByOne reader;
  reader.reader = lanes.destination.reader;
  reader.loop = &world.loop(Place::kDemand);
  world.RunOn(Place::kSourceDemand,
              [&] { lanes.source.exporter->Start(&SharedTestMemory(), &exporter); });
  world.RunOn(Place::kDemand, [&] { lanes.destination.reader->Start(&reader); });
  world.Settle();
  world.RunOn(Place::kDemand, [&] { reader.Next(); });
  world.WaitUntil([&] { return reader.done.load(); });
  std::ranges::sort(reader.took_ns);
  const auto at = [&](double part) {
    const auto index = static_cast<size_t>(part * static_cast<double>(reader.took_ns.size()));
    return static_cast<double>(reader.took_ns.at(index)) / 1e3;
  };
  std::printf("demand_p50_us=%.1f\ndemand_p99_us=%.1f\nasked_for=%zu\n", at(0.5), at(0.99),
              exporter.demands.load());
  world.RunOn(Place::kDemand, [&] { lanes.destination.reader->Stop(); });
  world.RunOn(Place::kSourceDemand, [&] { lanes.source.exporter->Stop(); });
}

void MeasureBulk(RdmaWorld& world, const Lanes& lanes) {
  const uint64_t run_pages = kRdmaRunBytesMax / 4096;
  std::vector<PageRun> runs;
  for (uint64_t round = 0; round < kBulkRounds; ++round) {
    for (uint64_t first = 1500; first + run_pages <= 4096; first += run_pages) {
      runs.push_back({0, first, run_pages});
    }
  }
  RunNotes notes(&SharedTestMemory());
  Pusher pusher(runs);
  world.RunOn(Place::kBulk, [&] { lanes.destination.push->Start(&notes); });
  const int64_t began_ns = world.loop(Place::kBulk).NowNanos();
  world.RunOn(Place::kSourceBulk, [&] { pusher.Start(lanes.source.push, &SharedTestMemory()); });
  world.WaitUntil([&] { return notes.finished(); });
  const double seconds = static_cast<double>(world.loop(Place::kBulk).NowNanos() - began_ns) / 1e9;
  std::printf("bulk_mib_per_second=%.1f\n",
              static_cast<double>(runs.size() * kRdmaRunBytesMax >> 20) / seconds);
  world.RunOn(Place::kBulk, [&] { lanes.destination.push->Stop(); });
  world.RunOn(Place::kSourceBulk, [&] { lanes.source.push->Stop(); });
}

}  // namespace
}  // namespace faultline::contract

int main() {
  using namespace faultline::contract;
  RdmaWorld world;
  Lanes lanes;
  OpenLanes(world, &lanes);
  if (lanes.source.exporter == nullptr || lanes.destination.reader == nullptr) {
    std::printf("no lanes\n");
    return 1;
  }
  MeasureDemand(world, lanes);
  MeasureBulk(world, lanes);
  return 0;
}
