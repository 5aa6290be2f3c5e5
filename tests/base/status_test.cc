#include "base/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace faultline {
namespace {

TEST(ErrnoStatus, SaysWhatTheTextAndTheName) {
  absl::Status status = ErrnoStatus(EACCES, "open /dev/userfaultfd");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(MessageOf(status), "open /dev/userfaultfd: Permission denied (EACCES)");
}

TEST(ErrnoStatus, CodeFollowsErrno) {
  EXPECT_EQ(ErrnoStatus(ENOENT, "x").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ErrnoStatus(ENOSPC, "x").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(EADDRINUSE, "x").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ErrnoStatus(ECONNRESET, "x").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ErrnoStatus(ETIMEDOUT, "x").code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ErrnoStatus(EBADF, "x").code(), absl::StatusCode::kInternal);
  EXPECT_THAT(MessageOf(ErrnoStatus(9999, "x")), testing::HasSubstr("(?)"));
}

TEST(Annotate, KeepsTheCode) {
  absl::Status status = Annotate(absl::NotFoundError("no such file"), "read the journal");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(MessageOf(status), "read the journal: no such file");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return number / 2;
}

absl::StatusOr<int> Quarter(int number) {
  ASSIGN_OR_RETURN(int half, Half(number));
  RETURN_IF_ERROR(Half(half).status());
  ASSIGN_OR_RETURN(half, Half(half));
  return half;
}

TEST(StatusMacros, ReturnTheFirstError) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(MessageOf(Quarter(6).status()), "odd");
  EXPECT_FALSE(Quarter(5).ok());
}

}  // namespace
}  // namespace faultline
