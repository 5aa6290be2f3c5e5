#include "sim/checked_lanes.h"

#include <fmt/format.h>

#include <utility>

#include "pages/page_digest.h"

namespace faultline::sim {

void CheckedReader::Start(PageReader::Listener* listener) {
  listener_ = listener;
  inner_->Start(this);
}

void CheckedReader::Read(std::span<const PageId> pages) {
  parts_.lifeline->Step();
  for (PageId page : pages) {
    parts_.trace->Note(Side::kDestination, "asks for", page.region, page.index);
    parts_.facts->asked.insert(page);
    if (!asked_.insert(page).second) {
      parts_.watch->Fail(fmt::format("asked for again before the answer came: page {} of region {}",
                                     page.index, page.region));
    }
  }
  inner_->Read(pages);
}

void CheckedReader::Stop() {
  listener_ = nullptr;
  repeats_.clear();
  inner_->Stop();
}

void CheckedReader::OnPage(PageId page, std::span<const std::byte> bytes,
                           std::optional<uint64_t> digest) {
  if (asked_.erase(page) == 0) {
    parts_.watch->Fail(fmt::format("an answer that nobody asked for: page {} of region {}",
                                   page.index, page.region));
  }
  // What does not fit is no answer: the page is asked for on the next lane.
  if (!digest.has_value() || *digest == DigestOfRun({page.region, page.index, 1}, bytes)) {
    parts_.facts->asked.erase(page);
    parts_.facts->answered_ns[page] = parts_.demand->NowNanos();
  }
  parts_.trace->Note(Side::kDestination, "is answered", page.region, page.index, bytes.size());
  const bool twice = random_.Chance(twice_percent_);
  listener_->OnPage(page, bytes, digest);
  if (twice && listener_ != nullptr) Repeat(page, bytes, digest);
}

void CheckedReader::Repeat(PageId page, std::span<const std::byte> bytes,
                           std::optional<uint64_t> digest) {
  if (random_.Chance(50)) return listener_->OnPage(page, bytes, digest);
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  repeats_.push_back(parts_.demand->RunAfter(
      random_.LogBetween(1, 5'000), [this, page, digest, copy = std::move(copy)] {
        parts_.trace->Note(Side::kDestination, "is answered again", page.region, page.index);
        if (listener_ != nullptr) listener_->OnPage(page, copy, digest);
      }));
}

void CheckedReader::OnReaderFailed(absl::Status status) {
  listener_->OnReaderFailed(std::move(status));
}

void CheckedDestinationTransport::ExpectLanes(const LaneTerms& terms, int64_t timeout_us,
                                              LanesOpen done) {
  inner_->ExpectLanes(
      terms, timeout_us,
      [this, layout = terms.layout, done = std::move(done)](absl::StatusOr<Lanes> lanes) {
        if (lanes.ok()) lanes = Wrap(*lanes, layout);
        done(std::move(lanes));
      });
}

DestinationTransport::Lanes CheckedDestinationTransport::Wrap(Lanes lanes,
                                                              const MemoryLayout& layout) {
  parts_.facts->asked.clear();
  parts_.facts->began_ns = parts_.demand->NowNanos();
  reader_ = std::make_unique<CheckedReader>(parts_, lanes.reader, answer_twice_percent_, seed_);
  lanes.reader = reader_.get();
  return saboteur_->BreakLanes(lanes, layout);
}

}  // namespace faultline::sim
