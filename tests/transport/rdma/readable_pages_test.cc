#include "transport/rdma/readable_pages.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

MemoryLayout Layout() { return {{"ram", 1000 * 4096, 4096}, {"huge", 4 * (2 << 20), 2 << 20}}; }

class ReadablePagesTest : public ::testing::Test {
 protected:
  ReadablePages pages_{Layout()};
};

TEST_F(ReadablePagesTest, APageLiesWhereItsStretchSays) {
  ASSERT_TRUE(pages_.Add({0, 100, 50}, {0x10000, 7}).ok());
  ASSERT_TRUE(pages_.Add({1, 1, 2}, {0x40000000, 9}).ok());
  EXPECT_EQ(pages_.Find({0, 100, 1}), (RemotePlace{0x10000, 7}));
  EXPECT_EQ(pages_.Find({0, 149, 1}), (RemotePlace{0x10000 + 49 * 4096, 7}));
  EXPECT_EQ(pages_.Find({0, 110, 40}), (RemotePlace{0x10000 + 10 * 4096, 7}));
  EXPECT_EQ(pages_.Find({1, 2, 1}), (RemotePlace{0x40000000 + (2 << 20), 9}));
  EXPECT_EQ(pages_.page_count(), 52u);
}

TEST_F(ReadablePagesTest, WhatIsNotWhollyInOneStretchIsNotFound) {
  ASSERT_TRUE(pages_.Add({0, 100, 50}, {0x10000, 7}).ok());
  ASSERT_TRUE(pages_.Add({0, 150, 50}, {0x90000, 8}).ok());
  EXPECT_FALSE(pages_.Find({0, 99, 1}).has_value());
  EXPECT_FALSE(pages_.Find({0, 200, 1}).has_value());
  EXPECT_FALSE(pages_.Find({0, 149, 2}).has_value());
  EXPECT_FALSE(pages_.Find({1, 0, 1}).has_value());
}

TEST_F(ReadablePagesTest, ARunBeginsAsFarAsItsFirstStretchOrHoleGoes) {
  ASSERT_TRUE(pages_.Add({0, 100, 50}, {0x10000, 7}).ok());
  ASSERT_TRUE(pages_.Add({0, 150, 50}, {0x90000, 8}).ok());
  const auto beginning = [&](const PageRun& run) { return pages_.BeginningOf(run); };
  EXPECT_EQ(beginning({0, 140, 30}).pages, 10u);
  EXPECT_EQ(beginning({0, 140, 30}).place, (RemotePlace{0x10000 + 40 * 4096, 7}));
  EXPECT_EQ(beginning({0, 150, 30}).pages, 30u);
  EXPECT_EQ(beginning({0, 150, 30}).place, (RemotePlace{0x90000, 8}));
  EXPECT_EQ(beginning({0, 90, 30}).pages, 10u);
  EXPECT_FALSE(beginning({0, 90, 30}).place.has_value());
  EXPECT_EQ(beginning({0, 200, 30}).pages, 30u);
  EXPECT_FALSE(beginning({0, 200, 30}).place.has_value());
}

TEST_F(ReadablePagesTest, APeerThatNamesPagesTwiceIsRefused) {
  ASSERT_TRUE(pages_.Add({0, 100, 50}, {0x10000, 7}).ok());
  for (const PageRun& run : {PageRun{0, 100, 1}, {0, 149, 1}, {0, 90, 11}, {0, 0, 1000}}) {
    const absl::Status status = pages_.Add(run, {0x90000, 8});
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << run.first;
    EXPECT_NE(MessageOf(status).find("'first page'"), std::string::npos) << status;
  }
  EXPECT_TRUE(pages_.Add({0, 90, 10}, {0x90000, 8}).ok());
  EXPECT_EQ(pages_.page_count(), 60u);
}

TEST_F(ReadablePagesTest, AnAddressBeyondTheEndIsRefused) {
  const absl::Status status = pages_.Add({0, 0, 2}, {UINT64_MAX - 4096, 7});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(MessageOf(status).find("'address'"), std::string::npos) << status;
}

}  // namespace
}  // namespace faultline
