// What the transport contract suites run on: both ends of a transport, their threads, and a peer
// that speaks raw bytes. One implementation for each transport and one for the fake.
#ifndef FAULTLINE_TESTS_CONTRACT_TRANSPORT_WORLD_H_
#define FAULTLINE_TESTS_CONTRACT_TRANSPORT_WORLD_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/zero_bytes.h"
#include "pages/page_digest.h"
#include "protocol/codec.h"
#include "seams/transport.h"

namespace faultline::contract {

// A connection to the destination that says whatever the test says.
class RawPeer {
 public:
  virtual ~RawPeer() = default;  // hangs up
  virtual void Send(std::span<const std::byte> bytes) = 0;
  // All that the destination has sent so far.
  virtual std::vector<std::byte> Received() = 0;
  virtual bool Closed() = 0;  // by the destination
};

enum class Place { kSourceControl, kSourceDemand, kSourceBulk, kControl, kDemand, kBulk };

class TransportWorld {
 public:
  virtual ~TransportWorld() = default;
  virtual SourceTransport& source() = 0;
  virtual DestinationTransport& destination() = 0;  // listens already
  // What has arrived; control thread of the destination.
  virtual std::vector<std::pair<Hello, std::unique_ptr<ControlChannel>>>& arrived() = 0;
  // Runs `task` on the executor of `place` and returns when it has run.
  virtual void RunOn(Place place, const std::function<void()>& task) = 0;
  // Lets things happen until `done` holds (from any thread) or too much time has passed.
  virtual bool WaitUntil(const std::function<bool()>& done) = 0;
  // Lets things happen for a little while.
  virtual void Settle() = 0;
  // Whether the exporter hears of every page that the peer wanted.
  virtual bool source_sees_demands() const { return true; }
  // Whether runs may be packed on the bulk lane.
  virtual bool packs() const { return false; }
  // Whether runs arrive in the order in which they were pushed.
  virtual bool keeps_order() const { return true; }
  virtual std::unique_ptr<RawPeer> ConnectRaw(ConnectionRole role) = 0;
};

using WorldFactory = std::function<std::unique_ptr<TransportWorld>()>;

// --- Listeners that note what they hear; any thread reads ---

class ChannelNotes : public ControlChannel::Listener {
 public:
  void OnMessage(Message message) override {
    std::lock_guard lock(mutex_);
    messages_.push_back(std::move(message));
  }
  void OnChannelClosed(absl::Status reason) override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(closed_.has_value()) << "closed twice";
    closed_ = std::move(reason);
  }
  std::vector<Message> messages() const {
    std::lock_guard lock(mutex_);
    return messages_;
  }
  std::optional<absl::Status> closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Message> messages_;
  std::optional<absl::Status> closed_;
};

class FailureNotes {
 public:
  void Note(absl::Status status) {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(failure_.has_value()) << "failed twice";
    failure_ = std::move(status);
  }
  std::optional<absl::Status> failure() const {
    std::lock_guard lock(mutex_);
    return failure_;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<absl::Status> failure_;
};

// --- A small VM ---

inline MemoryLayout TestLayout() {
  return {{"ram", 4096 * 4096, 4096}, {"huge", 3 * (2 << 20), 2 << 20}};
}

inline AllocationMap TestMap() {
  AllocationMap map(2);
  map[0].Add(0, 1000);
  map[0].Add(1500, 4096);
  map[1].Add(0, 1);
  map[1].Add(2, 3);
  return map;
}

// Every 8 bytes of the memory say where they are; in the second half of each region only every 64
// bytes do, so that they can be packed. What the map leaves out is zero.
class TestMemory : public SourceMemory {
 public:
  TestMemory() {
    for (size_t region = 0; region < layout_.size(); ++region) {
      const size_t bytes = layout_[region].size_bytes;
      Words memory(static_cast<uint64_t*>(std::aligned_alloc(4096, bytes)), &std::free);
      std::memset(memory.get(), 0, bytes);
      const std::span<uint64_t> words(memory.get(), bytes / 8);
      for (size_t i = 0; i < words.size(); ++i) {
        if (!map_[region].Contains(i * 8 / layout_[region].page_size_bytes)) continue;
        uint64_t place = i < words.size() / 2 ? i : i / 8;
        words[i] = (region << 56) | (place * 0x9e3779b97f4a7c);
      }
      words_.push_back(std::move(memory));
    }
  }
  const MemoryLayout& layout() const override { return layout_; }
  absl::StatusOr<AllocationMap> ReadAllocationMap() override { return TestMap(); }
  std::span<const std::byte> View(PageRun run) const {
    uint64_t page_bytes = layout_[run.region].page_size_bytes;
    return Bytes(run.region).subspan(run.first * page_bytes, run.count * page_bytes);
  }
  absl::StatusOr<std::span<std::byte>> Map(RegionIndex region, size_t) override {
    return Bytes(region);
  }
  absl::Status Read(RegionIndex region, uint64_t offset_bytes,
                    std::span<std::byte> out) const override {
    std::memcpy(out.data(), Bytes(region).data() + offset_bytes, out.size());
    return absl::OkStatus();
  }
  // No bytes stand for zeros.
  bool Matches(PageRun run, std::span<const std::byte> bytes) const {
    std::span<const std::byte> truth = View(run);
    if (bytes.empty()) return IsZero(truth);
    return bytes.size() == truth.size() &&
           std::memcmp(bytes.data(), truth.data(), truth.size()) == 0;
  }

 private:
  using Words = std::unique_ptr<uint64_t, void (*)(void*)>;

  std::span<std::byte> Bytes(RegionIndex region) const {
    return std::as_writable_bytes(
        std::span(words_[region].get(), layout_[region].size_bytes / sizeof(uint64_t)));
  }

  const MemoryLayout layout_ = TestLayout();
  const AllocationMap map_ = TestMap();
  std::vector<Words> words_;
};

// Never changes, so all tests of a process share one.
inline TestMemory& SharedTestMemory() {
  static TestMemory memory;
  return memory;
}

inline std::vector<std::byte> BytesOf(const Message& message) {
  std::vector<std::byte> bytes;
  EncodeMessage(message, &bytes);
  return bytes;
}

inline std::vector<std::byte> BytesOf(const PageFrame& frame) {
  std::vector<std::byte> bytes(kPageFrameBytes);
  EncodePageFrame(frame, std::span(bytes).first<kPageFrameBytes>());
  return bytes;
}

inline std::vector<std::byte> Join(std::vector<std::byte> first, std::span<const std::byte> more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

// With the check sum of `truth` behind what goes out as its bytes.
inline std::vector<std::byte> Checked(std::vector<std::byte> bytes, PageRun run,
                                      std::span<const std::byte> truth) {
  std::array<std::byte, kPageDigestBytes> digest;
  EncodePageDigest(DigestOfRun(run, truth), digest);
  return Join(std::move(bytes), digest);
}

inline std::vector<std::byte> Text(std::string_view text) {
  auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// --- What all suites begin with ---

class TransportContract : public ::testing::TestWithParam<WorldFactory> {
 protected:
  static constexpr MigrationId kId = {1, 2, 3, 4};
  static constexpr SessionToken kToken = {9, 8, 7, 6};
  static constexpr int64_t kTimeoutUs = 5'000'000;

  TransportContract() : world_(GetParam()()) {}

  // The channels are destroyed where they live.
  void TearDown() override {
    world_->RunOn(Place::kSourceControl, [&] { source_channel_.reset(); });
    world_->RunOn(Place::kControl, [&] {
      channel_.reset();
      world_->arrived().clear();
    });
    StopLanes();
    raw_demand_.reset();  // they are on the world's network
    raw_bulk_.reset();
    world_.reset();
  }

  // Stops the lanes that are open, as before others are opened or those who listen to them go.
  void StopLanes() {
    if (exporter_ != nullptr) {
      world_->RunOn(Place::kSourceDemand, [&] { exporter_->Stop(); });
      world_->RunOn(Place::kSourceBulk, [&] { push_->Stop(); });
    }
    if (reader_ != nullptr) {
      world_->RunOn(Place::kDemand, [&] { reader_->Stop(); });
      world_->RunOn(Place::kBulk, [&] { receiver_->Stop(); });
    }
    std::lock_guard lock(lanes_mutex_);
    exporter_ = nullptr;
    push_ = nullptr;
    reader_ = nullptr;
    receiver_ = nullptr;
    lanes_outcome_.reset();
    source_lanes_outcome_.reset();
  }

  static Hello HelloFor(ConnectionRole role) {
    Hello hello;
    hello.role = role;
    hello.migration_id = kId;
    if (role != ConnectionRole::kControl) hello.token = kToken;
    return hello;
  }

  // Both ends of a control connection in source_channel_ and channel_, not started.
  void ConnectControl() {
    std::mutex mutex;
    std::optional<absl::Status> outcome;
    world_->RunOn(Place::kSourceControl, [&] {
      world_->source().Connect(HelloFor(ConnectionRole::kControl), kTimeoutUs, [&](auto channel) {
        std::lock_guard lock(mutex);
        outcome = channel.status();
        if (channel.ok()) source_channel_ = std::move(channel).value();
      });
    });
    ASSERT_TRUE(world_->WaitUntil([&] {
      std::lock_guard lock(mutex);
      return outcome.has_value();
    }));
    ASSERT_TRUE(outcome->ok()) << *outcome;
    TakeArrived();
  }

  void TakeArrived() {
    ASSERT_TRUE(world_->WaitUntil([&] {
      bool here = false;
      world_->RunOn(Place::kControl, [&] { here = !world_->arrived().empty(); });
      return here;
    }));
    world_->RunOn(Place::kControl, [&] {
      hello_ = world_->arrived().front().first;
      channel_ = std::move(world_->arrived().front().second);
      world_->arrived().erase(world_->arrived().begin());
    });
  }

  LaneTerms TermsWith(const SessionToken& token) const {
    return {.id = kId,
            .token = token,
            .layout = TestLayout(),
            .integrity = integrity_,
            .memory = &memory_};
  }

  // The destination expects lanes; its answer goes to lanes_outcome_, reader_ and receiver_.
  void ExpectLanes(int64_t timeout_us = kTimeoutUs) {
    world_->RunOn(Place::kControl, [&] {
      world_->destination().ExpectLanes(TermsWith(kToken), timeout_us, [this](auto lanes) {
        std::lock_guard lock(lanes_mutex_);
        lanes_outcome_ = lanes.status();
        if (!lanes.ok()) return;
        reader_ = lanes->reader;
        receiver_ = lanes->push;
      });
    });
  }

  void OpenSourceLanes(const SessionToken& token = kToken) {
    world_->RunOn(Place::kSourceControl, [&] {
      world_->source().OpenLanes(TermsWith(token), kTimeoutUs, [this](auto lanes) {
        std::lock_guard lock(lanes_mutex_);
        source_lanes_outcome_ = lanes.status();
        if (!lanes.ok()) return;
        exporter_ = lanes->exporter;
        push_ = lanes->push;
      });
    });
  }

  std::optional<absl::Status> lanes_outcome() {
    std::lock_guard lock(lanes_mutex_);
    return lanes_outcome_;
  }
  std::optional<absl::Status> source_lanes_outcome() {
    std::lock_guard lock(lanes_mutex_);
    return source_lanes_outcome_;
  }

  // All four lane ends, not started.
  void OpenLanes() {
    ExpectLanes();
    OpenSourceLanes();
    ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome() && source_lanes_outcome(); }));
    ASSERT_TRUE(lanes_outcome()->ok()) << *lanes_outcome();
    ASSERT_TRUE(source_lanes_outcome()->ok()) << *source_lanes_outcome();
  }

  // The destination's lane ends, with raw peers in place of the source's.
  void OpenRawLanes() {
    ExpectLanes();
    raw_demand_ = world_->ConnectRaw(ConnectionRole::kDemand);
    raw_bulk_ = world_->ConnectRaw(ConnectionRole::kBulk);
    raw_demand_->Send(BytesOf(HelloFor(ConnectionRole::kDemand)));
    raw_bulk_->Send(BytesOf(HelloFor(ConnectionRole::kBulk)));
    ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome().has_value(); }));
    ASSERT_TRUE(lanes_outcome()->ok()) << *lanes_outcome();
    // With Welcome unread, hanging up would be a reset that destroys what is on its way.
    ASSERT_TRUE(world_->WaitUntil(
        [&] { return !raw_demand_->Received().empty() && !raw_bulk_->Received().empty(); }));
  }

  TestMemory& memory_ = SharedTestMemory();
  bool integrity_ = false;  // of the lanes that are opened
  const AllocationMap map_ = TestMap();
  std::unique_ptr<TransportWorld> world_;
  std::unique_ptr<ControlChannel> source_channel_;
  std::unique_ptr<ControlChannel> channel_;
  Hello hello_;
  std::unique_ptr<RawPeer> raw_demand_;
  std::unique_ptr<RawPeer> raw_bulk_;

  std::mutex lanes_mutex_;
  std::optional<absl::Status> lanes_outcome_;
  std::optional<absl::Status> source_lanes_outcome_;
  PageExporter* exporter_ = nullptr;
  PushLane* push_ = nullptr;
  PageReader* reader_ = nullptr;
  PushReceiver* receiver_ = nullptr;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_TRANSPORT_WORLD_H_
