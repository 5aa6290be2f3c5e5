#include "pages/memory_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

TEST(ValidateLayout, TakesWhatQemuHas) {
  EXPECT_TRUE(ValidateLayout({{"pc.ram", 1024 * kMiB, 4096}}).ok());
  EXPECT_TRUE(ValidateLayout({{"a", 2 * kMiB, 2 * kMiB}, {"b", 4096, 4096}}).ok());
}

TEST(ValidateLayout, NamesTheFieldThatIsWrong) {
  auto sentence = [](MemoryLayout layout) { return MessageOf(ValidateLayout(layout)); };
  EXPECT_THAT(sentence({}), HasSubstr("0 regions"));
  EXPECT_THAT(sentence(MemoryLayout(257, {"a", 4096, 4096})), HasSubstr("257 regions"));
  EXPECT_THAT(sentence({{"", 4096, 4096}}), HasSubstr("name"));
  EXPECT_THAT(sentence({{std::string(256, 'x'), 4096, 4096}}), HasSubstr("name"));
  EXPECT_THAT(sentence({{"a", 4096, 2048}}), AllOf(HasSubstr("'a'"), HasSubstr("page size 2048")));
  EXPECT_THAT(sentence({{"a", 12288, 12288}}), HasSubstr("page size 12288"));
  EXPECT_THAT(sentence({{"a", 5000, 4096}}), AllOf(HasSubstr("'a'"), HasSubstr("size 5000")));
  EXPECT_THAT(sentence({{"a", 0, 4096}}), HasSubstr("size 0"));
  EXPECT_THAT(sentence({{"a", kRegionBytesMax + 4096, 4096}}), HasSubstr("too large"));
  EXPECT_THAT(sentence({{"a", 4096, 4096}, {"a", 4096, 4096}}), HasSubstr("twice"));
}

TEST(MatchLayouts, FollowsTheSourcesOrder) {
  MemoryLayout source = {{"a", kMiB, 4096}, {"b", 2 * kMiB, 4096}, {"c", 4096, 4096}};
  MemoryLayout destination = {source[2], source[0], source[1]};
  auto matches = MatchLayouts(source, destination);
  ASSERT_TRUE(matches.ok()) << matches.status();
  EXPECT_EQ(*matches, (std::vector<RegionIndex>{1, 2, 0}));
}

TEST(MatchLayouts, SaysWhatDiffersAndTheMend) {
  MemoryLayout source = {{"ram", kMiB, 4096}};
  auto sentence = [&](MemoryLayout destination) {
    absl::Status status = MatchLayouts(source, destination).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return MessageOf(status);
  };
  EXPECT_THAT(sentence({{"ram", kMiB, 4096}, {"more", kMiB, 4096}}),
              AllOf(HasSubstr("1 RAM blocks ('ram')"), HasSubstr("2 ('ram', 'more')"),
                    HasSubstr("start the destination")));
  EXPECT_THAT(sentence({{"mem", kMiB, 4096}}),
              AllOf(HasSubstr("'ram'"), HasSubstr("'mem'"), HasSubstr("same id")));
  EXPECT_THAT(sentence({{"ram", 2 * kMiB, 4096}}),
              AllOf(HasSubstr("1048576"), HasSubstr("2097152"), HasSubstr("same memory size")));
  source[0] = {"ram", 2 * kMiB, 2 * kMiB};
  EXPECT_THAT(sentence({{"ram", 2 * kMiB, 4096}}),
              AllOf(HasSubstr("2097152"), HasSubstr("4096"), HasSubstr("hugetlbfs")));
}

TEST(MemoryLayout, Totals) {
  MemoryLayout layout = {{"a", 4 * kMiB, 2 * kMiB}, {"b", 8192, 4096}};
  EXPECT_EQ(TotalPages(layout), 4u);
  EXPECT_EQ(TotalBytes(layout), 4 * kMiB + 8192);
}

}  // namespace
}  // namespace faultline
