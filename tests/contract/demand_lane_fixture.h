// Listeners for both ends of a demand lane.
#ifndef FAULTLINE_TESTS_CONTRACT_DEMAND_LANE_FIXTURE_H_
#define FAULTLINE_TESTS_CONTRACT_DEMAND_LANE_FIXTURE_H_

#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "contract/transport_world.h"

namespace faultline::contract {

class ReaderNotes : public PageReader::Listener, public FailureNotes {
 public:
  ReaderNotes(const TestMemory* memory, const AllocationMap* map) : memory_(memory), map_(map) {}
  void OnPage(PageId page, std::span<const std::byte> bytes,
              std::optional<uint64_t> digest) override {
    std::lock_guard lock(mutex_);
    ++pages_[page];
    ++answers_;
    const PageRun run{page.region, page.index, 1};
    if (digest.has_value()) ++digests_;
    if (digest.has_value() && *digest != DigestOfRun(run, bytes)) {
      misfits_.push_back(page);
      return;
    }
    if ((*map_)[page.region].Contains(page.index)) {
      EXPECT_TRUE(memory_->Matches(run, bytes))
          << "page " << page.index << " of region " << page.region << " is wrong";
    } else {
      // What is absent is zero; small pages are said to be in fewer bytes.
      bool zero =
          std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
      EXPECT_TRUE(zero && (bytes.empty() || page.region == 1)) << "page " << page.index;
    }
  }
  void OnReaderFailed(absl::Status status) override { Note(std::move(status)); }
  // How often each page came.
  std::map<PageId, int> pages() const {
    std::lock_guard lock(mutex_);
    return pages_;
  }
  size_t page_count() const {
    std::lock_guard lock(mutex_);
    return pages_.size();
  }
  size_t answer_count() const {
    std::lock_guard lock(mutex_);
    return answers_;
  }
  // Whose check sum is not that of what came.
  std::vector<PageId> misfits() const {
    std::lock_guard lock(mutex_);
    return misfits_;
  }
  size_t digests() const {
    std::lock_guard lock(mutex_);
    return digests_;
  }

 private:
  const TestMemory* memory_;
  const AllocationMap* map_;
  mutable std::mutex mutex_;
  std::map<PageId, int> pages_;
  std::vector<PageId> misfits_;
  size_t digests_ = 0;
  size_t answers_ = 0;
};

class ExporterNotes : public PageExporter::Listener, public FailureNotes {
 public:
  void OnDemand(PageId page) override {
    std::lock_guard lock(mutex_);
    demands_.push_back(page);
  }
  void OnExporterFailed(absl::Status status) override { Note(std::move(status)); }
  std::vector<PageId> demands() const {
    std::lock_guard lock(mutex_);
    return demands_;
  }
  size_t demand_count() const {
    std::lock_guard lock(mutex_);
    return demands_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<PageId> demands_;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_DEMAND_LANE_FIXTURE_H_
