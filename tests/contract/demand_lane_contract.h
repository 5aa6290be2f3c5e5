// Demand lanes: what every transport's PageReader and PageExporter must do. Include once, then
// instantiate DemandLaneContract.
#ifndef FAULTLINE_TESTS_CONTRACT_DEMAND_LANE_CONTRACT_H_
#define FAULTLINE_TESTS_CONTRACT_DEMAND_LANE_CONTRACT_H_

#include <memory>
#include <vector>

#include "contract/demand_lane_fixture.h"

namespace faultline::contract {

class DemandLaneContract : public TransportContract {
 protected:
  void StartBoth() {
    OpenLanes();
    ASSERT_NE(exporter_, nullptr);
    StartExporter();
    world_->RunOn(Place::kDemand, [&] { reader_->Start(&notes_); });
  }
  void StartExporter() {
    world_->RunOn(Place::kSourceDemand, [&] { exporter_->Start(&memory_, &exporter_notes_); });
  }

  void StartRaw() {
    OpenRawLanes();
    ASSERT_NE(reader_, nullptr);
    world_->RunOn(Place::kDemand, [&] { reader_->Start(&notes_); });
  }

  void Read(const std::vector<PageId>& pages) {
    world_->RunOn(Place::kDemand, [&] { reader_->Read(pages); });
  }

  ReaderNotes notes_{&memory_, &map_};
  ExporterNotes exporter_notes_;
};

TEST_P(DemandLaneContract, OnePageComesWithItsBytes) {
  StartBoth();
  Read({{0, 7}});
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == 1; }));
  EXPECT_EQ(notes_.pages().begin()->first, (PageId{0, 7}));
  if (!world_->source_sees_demands()) return;
  ASSERT_TRUE(world_->WaitUntil([&] { return exporter_notes_.demand_count() == 1; }));
  EXPECT_EQ(exporter_notes_.demands()[0], (PageId{0, 7}));
}

TEST_P(DemandLaneContract, EveryPageComesOnceWithItsBytesOrZeros) {
  StartBoth();
  std::vector<PageId> all;
  for (RegionIndex region = 0; region < 2; ++region) {
    for (uint64_t page = 0; page < TestLayout()[region].page_count(); ++page) {
      all.push_back({region, page});
    }
  }
  // Hundreds outstanding at a time, huge pages among them.
  for (size_t at = 0; at < all.size(); at += 500) {
    size_t end = std::min(at + 500, all.size());
    Read({all.begin() + static_cast<ptrdiff_t>(at), all.begin() + static_cast<ptrdiff_t>(end)});
  }
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == all.size(); }));
  for (const auto& [page, count] : notes_.pages()) EXPECT_EQ(count, 1);
  EXPECT_GT(world_->destination().bytes_wire(), TotalBytes(TestLayout()) / 2);
  if (!world_->source_sees_demands()) return;
  ASSERT_TRUE(world_->WaitUntil([&] { return exporter_notes_.demand_count() == all.size(); }));
  EXPECT_EQ(exporter_notes_.demands(), all);
}

TEST_P(DemandLaneContract, HugePagesComeWhole) {
  StartBoth();
  Read({{1, 2}, {0, 3}, {1, 1}, {1, 0}});
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == 4; }));
}

TEST_P(DemandLaneContract, MoreRequestsThanAnybodyQueues) {
  StartBoth();
  std::vector<PageId> pages(30000);
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = {0, i % 4096};
  Read(pages);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.answer_count() == pages.size(); }));
  if (!world_->source_sees_demands()) return;
  ASSERT_TRUE(world_->WaitUntil([&] { return exporter_notes_.demand_count() == pages.size(); }));
}

TEST_P(DemandLaneContract, RequestsThatComeBeforeTheExporterStartsWait) {
  OpenLanes();
  world_->RunOn(Place::kDemand, [&] { reader_->Start(&notes_); });
  Read({{0, 1}, {0, 1200}});
  world_->Settle();
  EXPECT_EQ(notes_.page_count(), 0u);
  StartExporter();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == 2; }));
}

TEST_P(DemandLaneContract, PeerThatVanishesMidPageFailsTheReaderAndDeliversNothing) {
  StartRaw();
  Read({{0, 5}});
  PageRun run{0, 5, 1};
  auto frame = Join(BytesOf(PageFrame{PageFrameKind::kData, run}), memory_.View(run));
  raw_demand_->Send(std::span(frame).first(frame.size() - 1));
  raw_demand_.reset();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_EQ(notes_.page_count(), 0u);
}

TEST_P(DemandLaneContract, PeerThatVanishesMidHugePageFailsTheReaderAndDeliversNothing) {
  StartRaw();
  Read({{1, 0}});
  PageRun run{1, 0, 1};
  auto frame = Join(BytesOf(PageFrame{PageFrameKind::kData, run}), memory_.View(run));
  raw_demand_->Send(std::span(frame).first(frame.size() - 4096));
  raw_demand_.reset();
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_EQ(notes_.page_count(), 0u);
}

TEST_P(DemandLaneContract, PageOutsideTheVmFailsTheReaderByName) {
  StartRaw();
  raw_demand_->Send(BytesOf(PageFrame{PageFrameKind::kZero, {0, 4096, 1}}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(*notes_.failure()));
  EXPECT_NE(MessageOf(*notes_.failure()).find("'first page'"), std::string::npos)
      << *notes_.failure();
}

TEST_P(DemandLaneContract, ReaderThatStopsFailsTheExporter) {
  StartBoth();
  Read({{0, 1}});
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == 1; }));
  world_->RunOn(Place::kDemand, [&] { reader_->Stop(); });
  ASSERT_TRUE(world_->WaitUntil([&] { return exporter_notes_.failure().has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*exporter_notes_.failure())) << *exporter_notes_.failure();
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(DemandLaneContract, NothingIsHeardAfterStop) {
  StartBoth();
  std::vector<PageId> pages;
  for (uint64_t i = 0; i < 1000; ++i) pages.push_back({0, i});
  size_t before = 0;
  world_->RunOn(Place::kDemand, [&] {
    reader_->Read(pages);
    reader_->Stop();
    before = notes_.page_count();
  });
  world_->Settle();
  EXPECT_EQ(notes_.page_count(), before);
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(DemandLaneContract, LanesWithAWrongTokenAreTurnedDownAndDisturbNobody) {
  ExpectLanes();
  for (ConnectionRole role : {ConnectionRole::kDemand, ConnectionRole::kBulk}) {
    auto liar = world_->ConnectRaw(role);
    Hello hello = HelloFor(role);
    hello.token[3] ^= 1;
    liar->Send(BytesOf(hello));
    ASSERT_TRUE(world_->WaitUntil([&] { return liar->Closed(); }));
    auto answer = DecodeMessage(liar->Received());
    ASSERT_TRUE(answer.ok()) << answer.status();
    ASSERT_TRUE(std::holds_alternative<PeerError>(answer->message));
    EXPECT_EQ(std::get<PeerError>(answer->message).code, PeerErrorCode::kToken);
  }
  OpenSourceLanes();
  ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome() && source_lanes_outcome(); }));
  EXPECT_TRUE(lanes_outcome()->ok());
  EXPECT_TRUE(source_lanes_outcome()->ok());
}

TEST_P(DemandLaneContract, SourceWithAWrongTokenIsTold) {
  ExpectLanes();
  OpenSourceLanes(SessionToken{});
  ASSERT_TRUE(world_->WaitUntil([&] { return source_lanes_outcome().has_value(); }));
  EXPECT_TRUE(absl::IsPermissionDenied(*source_lanes_outcome())) << *source_lanes_outcome();
  EXPECT_FALSE(lanes_outcome().has_value());
}

TEST_P(DemandLaneContract, LanesThatDoNotComeTimeOut) {
  ExpectLanes(/*timeout_us=*/20'000);
  ASSERT_TRUE(world_->WaitUntil([&] { return lanes_outcome().has_value(); }));
  EXPECT_TRUE(absl::IsDeadlineExceeded(*lanes_outcome())) << *lanes_outcome();
}

// Small pages, huge ones that go out in parts, and zero ones; more than the connection takes at
// once.
TEST_P(DemandLaneContract, WithIntegrityEveryAnswerHasItsCheckSum) {
  integrity_ = true;
  StartBoth();
  std::vector<PageId> pages;
  for (uint64_t i = 0; i < 1500; ++i) pages.push_back({0, i});
  for (uint64_t i = 0; i < 3; ++i) pages.push_back({1, i});
  for (uint64_t i = 1500; i < 4096; ++i) pages.push_back({0, i});
  Read(pages);
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.page_count() == pages.size(); }));
  EXPECT_EQ(notes_.digests(), pages.size());
  EXPECT_TRUE(notes_.misfits().empty());
  EXPECT_FALSE(notes_.failure().has_value());
}

TEST_P(DemandLaneContract, AnAnswerThatChangesOnItsWayDoesNotFit) {
  integrity_ = true;
  StartRaw();
  const PageRun small{0, 5, 1}, huge{1, 0, 1}, zero{0, 1100, 1};
  std::vector<PageId> misfits;
  for (const PageRun& run : {small, huge}) {
    const std::vector<std::byte> good =
        Checked(Join(BytesOf(PageFrame{PageFrameKind::kData, run}), memory_.View(run)), run,
                memory_.View(run));
    for (size_t at : {kPageFrameBytes, good.size() / 2, good.size() - 1}) {
      std::vector<std::byte> changed = good;
      changed[at] ^= std::byte{1};
      raw_demand_->Send(changed);
      misfits.push_back({run.region, run.first});
    }
    raw_demand_->Send(good);
  }
  raw_demand_->Send(Checked(BytesOf(PageFrame{PageFrameKind::kZero, zero}), small, {}));
  misfits.push_back({0, 1100});
  raw_demand_->Send(Checked(BytesOf(PageFrame{PageFrameKind::kZero, zero}), zero, {}));
  ASSERT_TRUE(world_->WaitUntil([&] { return notes_.answer_count() == misfits.size() + 3; }));
  EXPECT_EQ(notes_.misfits(), misfits);
  EXPECT_FALSE(notes_.failure().has_value());
}

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_DEMAND_LANE_CONTRACT_H_
