#include "transport/rdma/write_arrivals.h"

#include <gtest/gtest.h>

#include <vector>

namespace faultline {
namespace {

WriteArrivals::Run RunAt(uint16_t rail, uint16_t slot) {
  return {{0, uint64_t{100} * rail + slot, 1}, 4096, {rail, slot}};
}

std::vector<uint64_t> TakeAll(WriteArrivals* arrivals) {
  std::vector<uint64_t> first_pages;
  while (arrivals->has_whole()) first_pages.push_back(arrivals->TakeFirst().run.first);
  return first_pages;
}

class WriteArrivalsTest : public ::testing::Test {
 protected:
  WriteArrivalsTest() {
    for (uint16_t slot = 0; slot < kRdmaSlotsGranted; ++slot) {
      arrivals_.Grant({0, slot});
      arrivals_.Grant({1, slot});
    }
  }
  WriteArrivals arrivals_;
};

TEST_F(WriteArrivalsTest, ARunIsWholeOnceItIsNamedAndHasArrivedInEitherOrder) {
  EXPECT_TRUE(arrivals_.idle());
  ASSERT_TRUE(arrivals_.Name(RunAt(0, 3)).ok());
  EXPECT_FALSE(arrivals_.has_whole());
  EXPECT_FALSE(arrivals_.idle()) << "what comes on the connection waits for it";
  arrivals_.Arrive(0);
  EXPECT_EQ(arrivals_.first_whole().run.first, 3u);
  EXPECT_EQ(TakeAll(&arrivals_), (std::vector<uint64_t>{3}));
  EXPECT_TRUE(arrivals_.idle());

  arrivals_.Arrive(0);
  arrivals_.Arrive(0);
  EXPECT_FALSE(arrivals_.has_whole());
  ASSERT_TRUE(arrivals_.Name(RunAt(0, 1)).ok());
  ASSERT_TRUE(arrivals_.Name(RunAt(0, 0)).ok());
  EXPECT_EQ(TakeAll(&arrivals_), (std::vector<uint64_t>{1, 0})) << "in the order of their naming";
}

TEST_F(WriteArrivalsTest, WhatArrivesOnOneRailMakesNothingWholeOnAnother) {
  ASSERT_TRUE(arrivals_.Name(RunAt(0, 0)).ok());
  ASSERT_TRUE(arrivals_.Name(RunAt(1, 0)).ok());
  arrivals_.Arrive(1);
  EXPECT_EQ(TakeAll(&arrivals_), (std::vector<uint64_t>{100}));
  arrivals_.Arrive(1);
  EXPECT_FALSE(arrivals_.has_whole());
  arrivals_.Arrive(0);
  EXPECT_EQ(TakeAll(&arrivals_), (std::vector<uint64_t>{0}));
}

TEST_F(WriteArrivalsTest, ASlotThatIsNotGrantedIsRefusedByName) {
  ASSERT_TRUE(arrivals_.Name(RunAt(0, 2)).ok());
  for (const auto& bad : {RunAt(0, 2), RunAt(2, 0), RunAt(8, 0), RunAt(0xffff, 0),
                          RunAt(0, kRdmaSlotsGranted), RunAt(0, 0xffff)}) {
    const absl::Status status = arrivals_.Name(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad.at.rail << " " << bad.at.slot;
    EXPECT_NE(MessageOf(status).find("'slot'"), std::string::npos) << status;
  }
  arrivals_.Arrive(0);
  EXPECT_FALSE(arrivals_.Name(RunAt(0, 2)).ok()) << "its run has not been taken";
  arrivals_.TakeFirst();
  EXPECT_FALSE(arrivals_.Name(RunAt(0, 2)).ok()) << "it is not granted again";
  arrivals_.Grant({0, 2});
  EXPECT_TRUE(arrivals_.Name(RunAt(0, 2)).ok());
}

}  // namespace
}  // namespace faultline
