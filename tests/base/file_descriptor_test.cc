#include "base/file_descriptor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace faultline {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(FileDescriptor, ClosesWhatItOwns) {
  int number;
  {
    FileDescriptor fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd.valid());
    number = fd.get();
  }
  EXPECT_FALSE(IsOpen(number));
}

TEST(FileDescriptor, MovesAndReleases) {
  FileDescriptor first(open("/dev/null", O_RDONLY | O_CLOEXEC));
  int number = first.get();
  FileDescriptor second(std::move(first));
  EXPECT_FALSE(first.valid());
  FileDescriptor third(open("/dev/null", O_RDONLY | O_CLOEXEC));
  int replaced = third.get();
  third = std::move(second);
  EXPECT_EQ(third.get(), number);
  EXPECT_FALSE(IsOpen(replaced));
  EXPECT_EQ(third.Release(), number);
  EXPECT_FALSE(third.valid());
  EXPECT_TRUE(IsOpen(number));
  close(number);
}

TEST(FileDescriptor, DuplicatesAreCloseOnExec) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  auto copy = pair->first.Duplicate();
  ASSERT_TRUE(copy.ok());
  EXPECT_NE(copy->get(), pair->first.get());
  EXPECT_EQ(fcntl(copy->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_FALSE(FileDescriptor().Duplicate().ok());
}

TEST(SetNonBlocking, SetsAndClears) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  int fd = pair->first.get();
  ASSERT_TRUE(SetNonBlocking(fd, true).ok());
  EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  ASSERT_TRUE(SetNonBlocking(fd, false).ok());
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_FALSE(SetNonBlocking(-1, true).ok());
}

TEST(ConnectUnix, ErrorsNameThePath) {
  EXPECT_THAT(MessageOf(ConnectUnix("/no/such/socket", SOCK_STREAM).status()),
              testing::HasSubstr("'/no/such/socket'"));
  absl::Status status = ConnectUnix(std::string(200, 'x'), SOCK_STREAM).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(status), testing::HasSubstr("200 bytes"));
}

}  // namespace
}  // namespace faultline
