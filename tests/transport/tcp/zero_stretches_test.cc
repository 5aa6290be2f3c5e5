#include "transport/tcp/zero_stretches.h"

#include <gtest/gtest.h>

#include <random>
#include <string_view>
#include <vector>

#include "base/zero_bytes.h"

namespace faultline {
namespace {

constexpr size_t kPage = 4096;

// One page for each letter: '.' is zero, '_' zero but for its last byte, anything else is data.
std::vector<std::byte> Pages(std::string_view letters, size_t page_bytes = kPage) {
  std::vector<std::byte> bytes(letters.size() * page_bytes);
  for (size_t i = 0; i < letters.size(); ++i) {
    if (letters[i] == '.') continue;
    const size_t begin = letters[i] == '_' ? (i + 1) * page_bytes - 1 : i * page_bytes;
    std::fill(bytes.begin() + static_cast<ptrdiff_t>(begin),
              bytes.begin() + static_cast<ptrdiff_t>((i + 1) * page_bytes), std::byte{7});
  }
  return bytes;
}

// The stretches of a whole run: "zero 4, data 2".
std::string Cut(std::string_view letters, size_t page_bytes = kPage) {
  const std::vector<std::byte> bytes = Pages(letters, page_bytes);
  std::span<const std::byte> rest = bytes;
  std::string said;
  while (!rest.empty()) {
    const Stretch stretch = FirstStretch(rest, page_bytes);
    if (!said.empty()) said += ", ";
    said += (stretch.is_zero ? "zero " : "data ") + std::to_string(stretch.pages);
    rest = rest.subspan(stretch.pages * page_bytes);
  }
  return said;
}

TEST(ZeroStretchesTest, CutsARunWhereItIsZero) {
  EXPECT_EQ(Cut("aaaa"), "data 4");
  EXPECT_EQ(Cut("......"), "zero 6");
  EXPECT_EQ(Cut("aa....bb"), "data 2, zero 4, data 2");
  EXPECT_EQ(Cut("....a"), "zero 4, data 1");
  EXPECT_EQ(Cut("a....."), "data 1, zero 5");
}

TEST(ZeroStretchesTest, AFewZeroPagesStayWithTheirNeighbours) {
  EXPECT_EQ(Cut("a...b"), "data 5");
  EXPECT_EQ(Cut("...a....."), "data 4, zero 5");
  EXPECT_EQ(Cut("a.b.c....d..."), "data 5, zero 4, data 4");
  EXPECT_EQ(Cut("."), "data 1");
}

TEST(ZeroStretchesTest, EveryByteCounts) { EXPECT_EQ(Cut("...._...."), "zero 4, data 1, zero 4"); }

TEST(ZeroStretchesTest, AHugePageIsWorthAFrame) {
  EXPECT_EQ(Cut("a.b", 2 << 20), "data 1, zero 1, data 1");
}

TEST(ZeroStretchesTest, StretchesCoverAnyRunAndZeroOnesAreZero) {
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    std::string letters;
    const size_t pages = 1 + random() % 64;
    while (letters.size() < pages) letters.append(1 + random() % 8, ".a_"[random() % 3]);
    const std::vector<std::byte> bytes = Pages(letters);
    std::span<const std::byte> rest = bytes;
    bool before_is_zero = false;
    while (!rest.empty()) {
      const Stretch stretch = FirstStretch(rest, kPage);
      ASSERT_GE(stretch.pages, 1u);
      ASSERT_LE(stretch.pages * kPage, rest.size());
      if (stretch.is_zero) {
        ASSERT_TRUE(IsZero(rest.first(stretch.pages * kPage))) << letters;
        ASSERT_GE(stretch.pages * kPage, kZeroStretchBytesMin);
        ASSERT_FALSE(before_is_zero) << letters;
      }
      before_is_zero = stretch.is_zero;
      rest = rest.subspan(stretch.pages * kPage);
    }
  }
}

}  // namespace
}  // namespace faultline
