// What the tests of the destination's two lanes share.
#ifndef FAULTLINE_TESTS_ENGINE_LANE_FIXTURE_H_
#define FAULTLINE_TESTS_ENGINE_LANE_FIXTURE_H_

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "engine/install_gate.h"
#include "engine/transfer.h"
#include "fakes/fake_guest_memory.h"
#include "fakes/manual_executor.h"
#include "seams/page_reader.h"
#include "seams/push_lane.h"

namespace faultline {

inline std::vector<std::byte> Filled(uint64_t pages, int value) {
  return std::vector<std::byte>(pages * 4096, static_cast<std::byte>(value));
}

class RecordingTransfer : public TransferListener {
 public:
  void OnAllPresent() override { ++all_present; }
  void OnPushFinished() override { ++push_finished; }
  void OnRoundReceived(uint32_t round) override { rounds.push_back(round); }
  void OnOutOfMemory(bool out) override { out_of_memory.push_back(out); }
  void OnMismatch(PageRun run) override { mismatches.push_back(run); }
  void OnLaneFailed(absl::Status status) override { lane_failure = status; }
  void OnTransferFailed(absl::Status status) override { failure = status; }

  int all_present = 0;
  int push_finished = 0;
  std::vector<uint32_t> rounds;
  std::vector<bool> out_of_memory;
  std::vector<PageRun> mismatches;
  absl::Status lane_failure, failure;
};

// Answers when the test says so.
class ManualReader : public PageReader {
 public:
  void Start(Listener* listener) override { listener_ = listener; }
  void Read(std::span<const PageId> pages) override {
    asked.insert(asked.end(), pages.begin(), pages.end());
  }
  void Stop() override { stopped = true; }

  void Answer(PageId page, int value) { listener_->OnPage(page, Filled(1, value), digest_of_next); }
  void AnswerZero(PageId page) { listener_->OnPage(page, {}, digest_of_next); }
  void Fail(const absl::Status& status) { listener_->OnReaderFailed(status); }

  std::vector<PageId> asked;
  std::optional<uint64_t> digest_of_next;
  bool stopped = false;

 private:
  Listener* listener_ = nullptr;
};

// Keeps what was refused and offers it again, as a receiver must.
class ManualReceiver : public PushReceiver {
 public:
  void Start(Listener* listener) override { listener_ = listener; }
  void Resume() override { Offer(); }
  void Stop() override { stopped = true; }

  void Push(PageRun run, std::vector<std::byte> bytes) {
    run_ = run;
    bytes_ = std::move(bytes);
    Offer();
  }
  void Mark(PageFrameKind mark, uint32_t round) { listener_->OnRoundMark(mark, round); }
  void Finish() { listener_->OnPushFinished(); }
  void Fail(const absl::Status& status) { listener_->OnReceiverFailed(status); }

  bool taken = false;
  std::optional<uint64_t> digest_of_next;
  int offers = 0;
  bool stopped = false;

 private:
  void Offer() {
    ++offers;
    taken = listener_->OnRun(run_, bytes_, digest_of_next);
  }

  Listener* listener_ = nullptr;
  PageRun run_;
  std::vector<std::byte> bytes_;
};

class LaneTest : public testing::Test {
 protected:
  LaneTest() : memory_({{"ram", kPages * 4096, 4096}}, &executor_) {}

  static constexpr uint64_t kPages = 100;

  PageState StateOf(uint64_t page) { return memory_.table().Get({0, page}); }
  void SetState(uint64_t page, PageState state) {
    ASSERT_TRUE(memory_.table().Change({0, page}, PageState::kMissing, state));
  }
  // The byte that every byte of `page` has; -1 if they differ, -2 if the page is not there.
  int Value(uint64_t page) {
    if (!memory_.IsPresent({0, page})) return -2;
    std::vector<std::byte> bytes = memory_.BytesOf({0, page});
    for (std::byte byte : bytes) {
      if (byte != bytes[0]) return -1;
    }
    return static_cast<int>(bytes[0]);
  }

  ManualClock clock_;
  ManualExecutor executor_{&clock_};
  FakeGuestMemory memory_;
  InstallGate gate_;
  TransferCounters counters_;
  RecordingTransfer listener_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_ENGINE_LANE_FIXTURE_H_
