#include "engine/read_around.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr uint64_t kPage = 4096;

// What a link of so many bytes a second has a 4 KiB page bring, after a while.
uint64_t PagesAt(double bytes_per_second, uint64_t page_bytes, ReadAround* around) {
  double pushed = 0;
  for (int64_t now_ns = 1'000'000 * kMs; pushed < bytes_per_second; now_ns += 7 * kMs) {
    around->Note(now_ns, static_cast<uint64_t>(pushed));
    pushed += bytes_per_second * 0.007;
  }
  return around->BlockPages(page_bytes);
}

uint64_t PagesAt(double bytes_per_second, uint64_t page_bytes = kPage,
                 ReadAround around = ReadAround::Automatic()) {
  return PagesAt(bytes_per_second, page_bytes, &around);
}

TEST(ReadAroundPolicy, AsManyAsTheLinkCarriesInThirtyMicroseconds) {
  EXPECT_EQ(PagesAt(117e6), 1u);    // 1 Gbit/s
  EXPECT_EQ(PagesAt(300e6), 2u);    // 9,000 bytes
  EXPECT_EQ(PagesAt(1200e6), 8u);   // 36,000: 10 Gbit/s
  EXPECT_EQ(PagesAt(2000e6), 8u);   // 60,000
  EXPECT_EQ(PagesAt(9000e6), 16u);  // never more than 64 KiB
}

TEST(ReadAroundPolicy, AHugePageComesAlone) { EXPECT_EQ(PagesAt(9000e6, 2 << 20), 1u); }

TEST(ReadAroundPolicy, AsTold) {
  EXPECT_EQ(PagesAt(9000e6, kPage, ReadAround::Always(0)), 1u);
  EXPECT_EQ(PagesAt(1e6, kPage, ReadAround::Always(16384)), 4u);
}

TEST(ReadAroundPolicy, NothingIsKnownAtFirst) {
  ReadAround around = ReadAround::Automatic();
  EXPECT_EQ(around.BlockPages(kPage), 1u);
  around.Note(5'000'000 * kMs, 0);
  EXPECT_EQ(around.BlockPages(kPage), 1u);
  around.Note(5'000'001 * kMs, 1 << 30);  // within a window
  EXPECT_EQ(around.BlockPages(kPage), 1u);
}

TEST(ReadAroundPolicy, WhatIsOnTheWayIsKnownOnASlowLinkOnly) {
  ReadAround slow = ReadAround::Automatic();
  ReadAround slower = slow, fast = slow, stands = slow;
  EXPECT_EQ(slow.OnTheWayPages(kPage), 0u);  // not known yet
  PagesAt(117e6, kPage, &slow);
  PagesAt(1200e6, kPage, &fast);
  PagesAt(0.5e6, kPage, &stands);
  EXPECT_EQ(slow.OnTheWayPages(kPage), 14u);
  EXPECT_EQ(slow.OnTheWayPages(2 << 20), 0u);
  EXPECT_EQ(fast.OnTheWayPages(kPage), 0u);
  EXPECT_EQ(stands.OnTheWayPages(kPage), 0u);
  EXPECT_NEAR(slow.AwaitNs(), 1e6, 1e4);
  PagesAt(11.7e6, kPage, &slower);  // 100 Mbit/s: the least that is queued takes longer
  EXPECT_EQ(slower.OnTheWayPages(kPage), 8u);
  EXPECT_NEAR(slower.AwaitNs(), 5.6e6, 1e5);
  EXPECT_EQ(ReadAround::Always(0).OnTheWayPages(kPage), 0u);
}

TEST(ReadAroundPolicy, ALinkThatGetsSlowerIsNoticed) {
  ReadAround around = ReadAround::Automatic();
  int64_t now_ns = 1'000'000 * kMs;
  uint64_t pushed = 0;
  for (int i = 0; i < 20; ++i) around.Note(now_ns += 5 * kMs, pushed += 8 << 20);
  EXPECT_EQ(around.BlockPages(kPage), 8u);
  for (int i = 0; i < 5; ++i) around.Note(now_ns += 5 * kMs, pushed += 512 << 10);
  EXPECT_EQ(around.BlockPages(kPage), 1u);
}

}  // namespace
}  // namespace faultline
