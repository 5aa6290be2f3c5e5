// The demand and bulk lanes over a FakeNetwork. They carry the real frames, through the codec.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_LANES_H_
#define FAULTLINE_TESTS_FAKES_FAKE_LANES_H_

#include <memory>
#include <vector>

#include "fakes/fake_network.h"
#include "fakes/manual_executor.h"
#include "seams/page_exporter.h"
#include "seams/page_reader.h"
#include "seams/push_lane.h"
#include "seams/transport.h"

namespace faultline {

inline constexpr uint64_t kFakeRunBytesMax = 256 * 1024;

class FakePageExporter : public PageExporter {
 public:
  FakePageExporter(ManualExecutor* demand, std::unique_ptr<FakeSocket> socket,
                   const LaneTerms& terms);
  void Start(const SourceMemory* memory, Listener* listener) override;
  void Stop() override;

 private:
  void OnBytes(const FakeSocket::Bytes& bytes);
  void Answer(PageId page);
  void Fail(const absl::Status& status);

  ManualExecutor* const demand_;
  const LaneTerms terms_;
  std::unique_ptr<FakeSocket> socket_;
  const SourceMemory* memory_ = nullptr;
  Listener* listener_ = nullptr;
};

class FakePageReader : public PageReader {
 public:
  FakePageReader(ManualExecutor* demand, std::unique_ptr<FakeSocket> socket,
                 const LaneTerms& terms);
  void Start(Listener* listener) override;
  void Read(std::span<const PageId> pages) override;
  void Stop() override;

 private:
  void OnBytes(const FakeSocket::Bytes& bytes);
  void Fail(const absl::Status& status);

  ManualExecutor* const demand_;
  const LaneTerms terms_;
  std::unique_ptr<FakeSocket> socket_;
  Listener* listener_ = nullptr;
};

class FakePushLane : public PushLane {
 public:
  FakePushLane(ManualExecutor* bulk, std::unique_ptr<FakeSocket> socket, const LaneTerms& terms);
  void Start(const SourceMemory* memory, Listener* listener) override;
  uint64_t run_bytes_max() const override { return kFakeRunBytesMax; }
  bool TryPush(PageRun run) override;
  bool TryMark(PageFrameKind mark, uint32_t round) override;
  void Finish() override;
  uint64_t bytes_sent() const override { return bytes_sent_; }
  void Stop() override;

 private:
  bool HasRoom();
  void OnDrained();
  void Fail(const absl::Status& status);

  ManualExecutor* const bulk_;
  const LaneTerms terms_;
  std::unique_ptr<FakeSocket> socket_;
  const SourceMemory* memory_ = nullptr;
  Listener* listener_ = nullptr;
  bool writable_wanted_ = false;
  bool finished_ = false;
  uint64_t bytes_sent_ = 0;
};

class FakePushReceiver : public PushReceiver {
 public:
  FakePushReceiver(ManualExecutor* bulk, std::unique_ptr<FakeSocket> socket,
                   const LaneTerms& terms);
  void Start(Listener* listener) override;
  void Resume() override;
  void Stop() override;

 private:
  void OnBytes(FakeSocket::Bytes bytes);
  void Offer();
  void Fail(const absl::Status& status);

  ManualExecutor* const bulk_;
  const LaneTerms terms_;
  std::unique_ptr<FakeSocket> socket_;
  Listener* listener_ = nullptr;
  bool finished_ = false;
  FakeSocket::Bytes held_;  // frame, bytes and check sum of a run that was not taken
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_LANES_H_
