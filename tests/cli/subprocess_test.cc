#include "cli/subprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace faultline {
namespace {

using ::testing::HasSubstr;

TEST(SubprocessTest, CapturesBothStreamsAndTheEnd) {
  absl::StatusOr<CapturedOutput> output =
      RunAndCapture({"sh", "-c", "echo out; echo err >&2; exit 7"}, 5000);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->text, "out\nerr\n");
  EXPECT_EQ(output->exit_status, 7);
  EXPECT_EQ(RunAndCapture({"sh", "-c", "kill -9 $$"}, 5000)->exit_status, 137);
}

TEST(SubprocessTest, SignalsAreFreshInTheChild) {
  absl::StatusOr<CapturedOutput> output =
      RunAndCapture({"grep", "-E", "SigBlk|SigIgn", "/proc/self/status"}, 5000);
  ASSERT_TRUE(output.ok());
  EXPECT_THAT(output->text, HasSubstr("SigBlk:\t0000000000000000"));
}

TEST(SubprocessTest, FailuresAreNamed) {
  EXPECT_THAT(RunAndCapture({"/no/such"}, 5000).status().message(),
              HasSubstr("start '/no/such': No such file"));
  absl::StatusOr<CapturedOutput> slow = RunAndCapture({"sleep", "100"}, 50);
  EXPECT_TRUE(absl::IsDeadlineExceeded(slow.status())) << slow.status();
}

}  // namespace
}  // namespace faultline
