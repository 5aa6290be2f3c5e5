// A source of RDMA whose destination listens on tcp://. Needs no device.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "contract/bulk_lane_fixture.h"
#include "contract/demand_lane_fixture.h"
#include "transport/rdma/rdma_source_transport.h"
#include "transport/tcp/tcp_world.h"

namespace faultline::contract {
namespace {

class RdmaSourceOfTcpTest : public TransportContract {
 protected:
  TcpWorld& world() { return static_cast<TcpWorld&>(*world_); }

  absl::Status Open(const LaneTerms& terms, bool fall_back) {
    ExpectLanes();
    std::mutex mutex;
    std::optional<absl::Status> outcome;
    world_->RunOn(Place::kSourceControl, [&] {
      const RdmaOptions options{
          .tcp = {.uri = {"127.0.0.1", world().port()},
                  .on_notice = [this](const std::string& text) { notices_.push_back(text); }},
          .tuning = {.fall_back = fall_back}};
      source_ = std::make_unique<RdmaSourceTransport>(
          options,
          TcpLoops{&world().loop(Place::kSourceControl), &world().loop(Place::kSourceDemand),
                   &world().loop(Place::kSourceBulk)});
      source_->OpenLanes(terms, kTimeoutUs, [&](auto lanes) {
        std::lock_guard lock(mutex);
        outcome = lanes.status();
        if (lanes.ok()) lanes_ = *lanes;
      });
    });
    EXPECT_TRUE(world_->WaitUntil([&] {
      std::lock_guard lock(mutex);
      return outcome.has_value();
    }));
    EXPECT_TRUE(world_->WaitUntil([&] { return lanes_outcome().has_value(); }));
    return *outcome;
  }

  void StopSourceLanes() {
    if (lanes_.exporter == nullptr) return;
    world_->RunOn(Place::kSourceDemand, [&] { lanes_.exporter->Stop(); });
    world_->RunOn(Place::kSourceBulk, [&] { lanes_.push->Stop(); });
    lanes_ = {};
  }
  void TearDown() override {
    StopSourceLanes();
    world_->RunOn(Place::kSourceControl, [&] { source_.reset(); });
    TransportContract::TearDown();
  }

  std::vector<std::string> notices_;
  std::unique_ptr<RdmaSourceTransport> source_;
  SourceTransport::Lanes lanes_;
};
INSTANTIATE_TEST_SUITE_P(Tcp, RdmaSourceOfTcpTest,
                         ::testing::Values([] { return std::make_unique<TcpWorld>(); }));

TEST_P(RdmaSourceOfTcpTest, ADestinationOnTcpIsNamedBeforeTheHandover) {
  const absl::Status outcome = Open(TermsWith(kToken), /*fall_back=*/true);
  EXPECT_TRUE(absl::IsFailedPrecondition(outcome)) << outcome;
  EXPECT_NE(MessageOf(outcome).find("the destination listens on tcp://"), std::string::npos)
      << outcome;
  EXPECT_TRUE(notices_.empty());
}

TEST_P(RdmaSourceOfTcpTest, AfterTheHandoverItsPagesComeAllTheSame) {
  LaneTerms terms = TermsWith(kToken);
  terms.handed_over = true;
  ASSERT_TRUE(Open(terms, /*fall_back=*/true).ok());
  ASSERT_EQ(notices_.size(), 1u);
  EXPECT_NE(notices_[0].find("goes over TCP"), std::string::npos) << notices_[0];
  ReaderNotes pages(&memory_, &map_);
  ExporterNotes demands;
  RunNotes runs(&memory_);
  Pusher pusher({{0, 990, 20}, {0, 1500, 64}, {1, 0, 1}});
  world_->RunOn(Place::kDemand, [&] { reader_->Start(&pages); });
  world_->RunOn(Place::kBulk, [&] { receiver_->Start(&runs); });
  world_->RunOn(Place::kSourceDemand, [&] { lanes_.exporter->Start(&memory_, &demands); });
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(lanes_.push, &memory_); });
  world_->RunOn(Place::kDemand, [&] { reader_->Read(std::vector<PageId>{{0, 7}, {1, 2}}); });
  EXPECT_TRUE(world_->WaitUntil([&] { return pages.page_count() == 2 && runs.finished(); }));
  EXPECT_EQ(demands.demand_count(), 2u);
  // The listeners go first.
  StopLanes();
  StopSourceLanes();
}

// A page that is waited for must not stand behind a send queue that is full.
TEST_P(RdmaSourceOfTcpTest, WhatGoesOverTcpQueuesNoMoreThanPlainTcpDoes) {
  struct SlowSink : PushReceiver::Listener, FailureNotes {
    bool OnRun(PageRun, std::span<const std::byte>, std::optional<uint64_t>) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(4));
      return true;
    }
    void OnRoundMark(PageFrameKind, uint32_t) override {}
    void OnPushFinished() override {}
    void OnReceiverFailed(absl::Status status) override { Note(std::move(status)); }
  } sink;
  LaneTerms terms = TermsWith(kToken);
  terms.handed_over = true;
  ASSERT_TRUE(Open(terms, /*fall_back=*/true).ok());
  Pusher pusher(std::vector<PageRun>(4000, PageRun{0, 1500, 64}));
  world_->RunOn(Place::kBulk, [&] { receiver_->Start(&sink); });
  world_->RunOn(Place::kSourceBulk, [&] { pusher.Start(lanes_.push, &memory_); });
  EXPECT_TRUE(world_->WaitUntil([&] {
    uint64_t run_bytes_max = 0;
    world_->RunOn(Place::kSourceBulk, [&] { run_bytes_max = lanes_.push->run_bytes_max(); });
    return run_bytes_max < kRdmaRunBytesMax;
  }));
  StopLanes();
  StopSourceLanes();
}

TEST_P(RdmaSourceOfTcpTest, AfterTheHandoverWhoForbidsItGetsNoPagesOverTcp) {
  LaneTerms terms = TermsWith(kToken);
  terms.handed_over = true;
  EXPECT_TRUE(absl::IsFailedPrecondition(Open(terms, /*fall_back=*/false)));
}

}  // namespace
}  // namespace faultline::contract
