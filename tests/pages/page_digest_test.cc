#include "pages/page_digest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

namespace faultline {
namespace {

std::vector<std::byte> Bytes(size_t count) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 2654435761u >> 24);
  return bytes;
}

// What is on the wire must mean the same to both sides, whatever processors they have and whatever
// release they are.
TEST(PageDigestTest, IsWhatItWas) {
  EXPECT_EQ(DigestOfRun({1, 2, 1}, Bytes(4096)), 0x7bd3cce484bbc127u);
  EXPECT_EQ(DigestOfRun({0, 0, 64}, Bytes(262144)), 0x5c8f58c7e5e37937u);
  EXPECT_EQ(DigestOfRun({0, 5, 3}, {}), 0x461a343a45adcc90u);
  EXPECT_EQ(DigestWithRange(0, 1, {2, 5}), 0x1fed6a567de9990au);
}

TEST(PageDigestTest, AnyBitAndTheLengthCount) {
  const PageRun run{0, 7, 1};
  std::vector<std::byte> bytes = Bytes(4096);
  std::set<uint64_t> seen = {DigestOfRun(run, bytes), DigestOfRun(run, {}),
                             DigestOfRun(run, std::span(bytes).first(4095))};
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    seen.insert(DigestOfRun(run, bytes));
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  EXPECT_EQ(seen.size(), 4096u * 8 + 3);
}

TEST(PageDigestTest, ThePlaceCounts) {
  const std::vector<std::byte> bytes = Bytes(2 * 4096);
  std::set<uint64_t> seen;
  for (const PageRun& run :
       {PageRun{0, 7, 2}, PageRun{1, 7, 2}, PageRun{0, 8, 2}, PageRun{0, 7, 1}}) {
    seen.insert(DigestOfRun(run, bytes));
    seen.insert(DigestOfRun(run, {}));
  }
  EXPECT_EQ(seen.size(), 8u);
}

TEST(PageDigestTest, PiecesOfAnyLengthComeToTheSame) {
  const std::vector<std::byte> bytes = Bytes(1 << 20);
  const PageRun run{1, 3, 1};
  RunDigester digester;
  for (size_t piece : {size_t{1}, size_t{63}, size_t{4096}, size_t{262144}, bytes.size()}) {
    digester.Begin();
    for (size_t at = 0; at < bytes.size(); at += piece) {
      digester.Add(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    }
    EXPECT_EQ(digester.bytes(), bytes.size());
    EXPECT_EQ(digester.End(run), DigestOfRun(run, bytes)) << piece;
  }
}

TEST(PageDigestTest, ThreadsBeginAtOnce) {
  const std::vector<std::byte> bytes = Bytes(4096);
  std::vector<uint64_t> digests(8);
  {
    std::vector<std::jthread> threads;
    for (uint64_t& digest : digests) {
      threads.emplace_back([&] { digest = DigestOfRun({0, 1, 1}, bytes); });
    }
  }
  EXPECT_EQ(std::set<uint64_t>(digests.begin(), digests.end()).size(), 1u);
}

TEST(PageDigestTest, AMapsRangesCountInOrder) {
  auto digest = [](std::vector<std::pair<RegionIndex, PageRange>> ranges) {
    uint64_t value = 0;
    for (const auto& [region, range] : ranges) value = DigestWithRange(value, region, range);
    return value;
  };
  std::set<uint64_t> seen = {digest({}),
                             digest({{0, {1, 3}}}),
                             digest({{1, {1, 3}}}),
                             digest({{0, {2, 4}}}),
                             digest({{0, {1, 3}}, {0, {5, 6}}}),
                             digest({{0, {5, 6}}, {0, {1, 3}}})};
  EXPECT_EQ(seen.size(), 6u);
}

}  // namespace
}  // namespace faultline
