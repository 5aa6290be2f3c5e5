#include "transport/rdma/write_credits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace faultline {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kSlotBytes = 256 * 1024;

WriteGrant Grant(uint16_t rail, uint16_t slot) {
  return {.address = 0x1000, .key = 7, .bytes = kSlotBytes, .rail = rail, .slot = slot};
}

TEST(WriteCreditsTest, ASlotIsGrantedTakenAndGrantedAgain) {
  WriteCredits credits({0, 2}, kSlotBytes);
  EXPECT_FALSE(credits.has_any(0));
  for (int turn = 0; turn < 3; ++turn) {
    for (const uint16_t slot : {5, 0}) EXPECT_TRUE(credits.Add(Grant(2, slot)).ok());
    EXPECT_EQ(credits.outstanding(), 0u) << "all that was taken is granted again";
    EXPECT_FALSE(credits.has_any(0));
    EXPECT_EQ(credits.Take(2), Grant(2, 5)) << "the oldest";
    EXPECT_EQ(credits.Take(2), Grant(2, 0));
    EXPECT_FALSE(credits.has_any(2));
    EXPECT_EQ(credits.outstanding(), 2u);
  }
}

TEST(WriteCreditsTest, AGrantThatBreaksTheRulesIsRefusedByName) {
  WriteCredits credits({0, 2}, kSlotBytes);
  const auto refusal = [&](const std::function<void(WriteGrant*)>& change) {
    WriteGrant grant = Grant(2, 1);
    change(&grant);
    const absl::Status status = credits.Add(grant);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return MessageOf(status);
  };
  EXPECT_THAT(refusal([](auto* grant) { grant->rail = 1; }), HasSubstr("'rail' is 1,"));
  EXPECT_THAT(refusal([](auto* grant) { grant->rail = 8; }), HasSubstr("'rail' is 8,"));
  EXPECT_THAT(refusal([](auto* grant) { grant->rail = 0xffff; }), HasSubstr("'rail'"));
  EXPECT_THAT(refusal([](auto* grant) { grant->slot = kRdmaSlotsGranted; }), HasSubstr("'slot'"));
  EXPECT_THAT(refusal([](auto* grant) { --grant->bytes; }), HasSubstr("'bytes'"));
  EXPECT_THAT(refusal([](auto* grant) { ++grant->bytes; }), HasSubstr("'bytes'"));
  EXPECT_THAT(refusal([](auto* grant) { grant->address = ~uint64_t{0} - kSlotBytes + 1; }),
              HasSubstr("'address'"));
  EXPECT_FALSE(credits.has_any(2)) << "none of them counts";
  ASSERT_TRUE(credits.Add(Grant(2, 1)).ok());
  EXPECT_THAT(refusal([](auto*) {}), HasSubstr("granted already"));
  credits.Take(2);
  EXPECT_FALSE(credits.has_any(2)) << "it was granted once";
}

}  // namespace
}  // namespace faultline
