#include "base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <fstream>

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(ParseDurationUs, TakesANumberAndItsUnit) {
  EXPECT_EQ(*ParseDurationUs("300ms"), 300'000);
  EXPECT_EQ(*ParseDurationUs("90s"), 90'000'000);
  EXPECT_EQ(*ParseDurationUs("0.5s"), 500'000);
  EXPECT_EQ(*ParseDurationUs("10min"), 600'000'000);
  EXPECT_EQ(*ParseDurationUs("2h"), 7'200'000'000);
  for (const char* text : {"", "s", "90", "0s", "-1s", "1us", "10 min", "1e30h"}) {
    absl::StatusOr<int64_t> us = ParseDurationUs(text);
    ASSERT_FALSE(us.ok()) << text;
    EXPECT_NE(MessageOf(us.status()).find("90s"), std::string::npos);
  }
}

TEST(ParseRate, TakesBytesAndBits) {
  EXPECT_EQ(*ParseRate("1"), 1u);
  EXPECT_EQ(*ParseRate("100000"), 100000u);
  EXPECT_EQ(*ParseRate("500K"), 500000u);
  EXPECT_EQ(*ParseRate("500M"), 500000000u);
  EXPECT_EQ(*ParseRate("2G"), 2000000000u);
  EXPECT_EQ(*ParseRate("1KiB"), 1024u);
  EXPECT_EQ(*ParseRate("100MiB"), 104857600u);
  EXPECT_EQ(*ParseRate("1.5GiB"), 1610612736u);
  EXPECT_EQ(*ParseRate("1Gbit"), 125000000u);
  EXPECT_EQ(*ParseRate("10Mbit"), 1250000u);
  EXPECT_EQ(*ParseRate("8Kbit"), 1000u);
  EXPECT_EQ(*ParseRate("8bit"), 1u);
}

TEST(ParseRate, RefusesTheRestAndSaysTheForms) {
  for (const char* text : {"", "K", "0", "-1", "-5M", "1 M", "1m", "1MB", "1gbit", "1Tbit", "1e30",
                           "nan", "inf", "0x10", "4bit", "1M ", " 1M", "999999999999G"}) {
    absl::Status status = ParseRate(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(MessageOf(status), AllOf(HasSubstr(std::string("'") + text + "'"),
                                         HasSubstr("1Gbit"), HasSubstr("100MiB")));
  }
}

TEST(FormatBytes, PicksTheUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(4096), "4.0 KiB");
  EXPECT_EQ(FormatBytes(512u << 20), "512.0 MiB");
  EXPECT_EQ(FormatBytes(uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(FormatBytes(uint64_t{1} << 52), "4096.0 TiB");
}

TEST(HexEncode, TwoDigitsAByte) {
  EXPECT_EQ(HexEncode(std::array<uint8_t, 3>{0x00, 0x0f, 0xff}), "000fff");
  EXPECT_EQ(HexEncode({}), "");
}

TEST(ReadTextFile, ReadsFilesAndProc) {
  EXPECT_THAT(*ReadTextFile("/proc/self/comm"), HasSubstr("base_test"));
  EXPECT_THAT(MessageOf(ReadTextFile("/no/such/file").status()), HasSubstr("'/no/such/file'"));
  EXPECT_EQ(ReadTextFile("/no/such/file").status().code(), absl::StatusCode::kNotFound);
}

TEST(ReadTextFile, HasALimit) {
  std::string path = testing::TempDir() + "large" + std::to_string(getpid());
  std::ofstream(path) << std::string((1 << 20) - 1, 'x');
  EXPECT_EQ(ReadTextFile(path)->size(), (1u << 20) - 1);
  std::ofstream(path) << std::string((1 << 20) + 1, 'x');
  EXPECT_EQ(ReadTextFile(path).status().code(), absl::StatusCode::kResourceExhausted);
  std::ofstream(path) << std::string(1 << 20, 'x');
  EXPECT_EQ(ReadTextFile(path)->size(), 1u << 20);
  unlink(path.c_str());
}

}  // namespace
}  // namespace faultline
