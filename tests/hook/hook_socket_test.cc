// The hook's manners on its socket: who may talk, one at a time, garbage, and how a client tells
// what is wrong.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/text.h"
#include "hook/hook_fixture.h"
#include "hook/raw_hook.h"

namespace faultline {
namespace {

class HookSocketTest : public HookFixture {
 protected:
  // Ok only if a new client is served.
  absl::Status Served() {
    absl::StatusOr<HookClient> client = HookClient::Connect(socket_path_, kTimeoutMs);
    return client.ok() ? client->Ping() : client.status();
  }
  absl::Status ConnectError(const std::string& path, int timeout_ms = kTimeoutMs) {
    return HookClient::Connect(path, timeout_ms).status();
  }
  void ExpectWords(const absl::Status& status, absl::StatusCode code, const std::string& words) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(MessageOf(status).find(words), std::string::npos) << status;
  }
};

// A unix socket that listens and says nothing.
FileDescriptor Listen(const std::string& path, int type) {
  FileDescriptor fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(fd.get(), 1), 0);
  return fd;
}

TEST_F(HookSocketTest, HelloTellsVersionProcessAndRelease) {
  StartTarget();
  HookClient client = Connect();
  EXPECT_EQ(client.info().version, 1);
  EXPECT_EQ(client.info().release, "0.1.0");
  EXPECT_EQ(client.info().process_id, target_->pid());
  EXPECT_FALSE(client.info().armed);
  EXPECT_TRUE(client.Ping().ok());
}

TEST_F(HookSocketTest, SocketIsForItsOwnerOnly) {
  StartTarget();
  struct stat file {};
  ASSERT_EQ(stat(socket_path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
}

TEST_F(HookSocketTest, RemovesTheSocketAtExit) {
  StartTarget();
  target_->CloseInput();
  EXPECT_EQ(target_->Wait(kTimeoutMs), 0);
  EXPECT_FALSE(std::filesystem::exists(socket_path_));
}

TEST_F(HookSocketTest, ReplacesTheSocketOfADeadProcess) {
  StartTarget();
  target_->Kill(SIGKILL);
  target_->Wait(kTimeoutMs);
  ASSERT_TRUE(std::filesystem::exists(socket_path_));
  ExpectWords(ConnectError(socket_path_), absl::StatusCode::kUnavailable, "nobody serves");
  StartTarget();
  EXPECT_TRUE(Served().ok()) << Served();
}

TEST_F(HookSocketTest, LeavesALiveSocketAndAPlainFileAlone) {
  StartTarget();
  pid_t first = target_->pid();
  {
    ChildProcess second({HookTarget()}, PreloadEnvironment());
    EXPECT_NE(second.Ask("pid"), "");
    EXPECT_NE(second.Errors().find("another process is serving it"), std::string::npos);
    second.CloseInput();
    EXPECT_EQ(second.Wait(kTimeoutMs), 0);
  }
  EXPECT_EQ(Connect().info().process_id, first);

  socket_path_ = scratch_.MakeFile("precious", 1);
  ChildProcess third({HookTarget()}, PreloadEnvironment());
  EXPECT_NE(third.Ask("pid"), "");
  EXPECT_NE(third.Errors().find("not a socket"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_regular_file(socket_path_));
}

TEST_F(HookSocketTest, SecondClientIsToldWhoHoldsTheHook) {
  StartTarget();
  {
    HookClient first = Connect();
    absl::Status busy = ConnectError(socket_path_);
    ExpectWords(busy, absl::StatusCode::kUnavailable,
                "busy with another client, process " + std::to_string(getpid()));
    EXPECT_TRUE(first.Ping().ok());
  }
  EXPECT_TRUE(Served().ok()) << Served();
}

TEST_F(HookSocketTest, AClientThatSaysNothingIsDroppedAfterAWhile) {
  StartTarget();
  RawHook silent(socket_path_);
  ExpectWords(ConnectError(socket_path_), absl::StatusCode::kUnavailable, "busy");
  EXPECT_TRUE(WaitFor(8000, [&] {
    SleepMs(200);
    return Served().ok();
  }));
}

TEST_F(HookSocketTest, AClientThatHasSaidHelloMayBeSilent) {
  StartTarget();
  HookClient client = Connect();
  SleepMs(6000);
  EXPECT_TRUE(client.Ping().ok());
}

TEST_F(HookSocketTest, RefusesAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  StartTarget();
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  auto message_as_nobody = [&] {
    pid_t child = fork();
    if (child == 0) {
      if (setuid(65534) < 0) _exit(1);
      std::string text = MessageOf(HookClient::Connect(socket_path_, kTimeoutMs).status());
      _exit(write(fds[1], text.data(), text.size()) < 0 ? 1 : 0);
    }
    waitpid(child, nullptr, 0);
    char text[1024] = {};
    return read(fds[0], text, sizeof(text) - 1) > 0 ? std::string(text) : std::string();
  };
  ASSERT_EQ(chmod(scratch_.path().c_str(), 0755), 0);
  EXPECT_NE(message_as_nobody().find("no permission to connect"), std::string::npos);
  // The mode is only the first of the two locks.
  ASSERT_EQ(chmod(socket_path_.c_str(), 0666), 0);
  EXPECT_NE(message_as_nobody().find("talks only to user id 0 and root"), std::string::npos);
  EXPECT_NE(target_->Errors().find("of user 65534 was turned away"), std::string::npos);
  for (int i = 0; i < 12; ++i) message_as_nobody();
  const std::string told = target_->Errors();
  EXPECT_NE(told.find("more are not told"), std::string::npos) << told;
  EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 7) << told;  // 8 with the first
  EXPECT_TRUE(Served().ok()) << Served();
  close(fds[0]);
  close(fds[1]);
}

TEST_F(HookSocketTest, AnswersMalformedMessagesAndGoesOn) {
  StartTarget();
  RawHook raw(socket_path_);
  auto status_of = [&](std::vector<uint8_t> bytes) {
    std::optional<HookHeader> answer = raw.Ask(bytes);
    return answer ? answer->status : 0u;
  };
  std::vector<uint8_t> ping = MakeMessage(1, kHookTypePing);
  EXPECT_EQ(status_of(ping), uint32_t{kHookStatusHelloFirst});
  ASSERT_EQ(raw.Hello(2, 9)->status, uint32_t{kHookStatusVersion});
  std::optional<HookHeader> hello = raw.Hello(1, 9);
  ASSERT_EQ(hello->status, uint32_t{kHookStatusOk});
  EXPECT_EQ(hello->version, 1);
  EXPECT_EQ(hello->sequence, 7u);

  EXPECT_EQ(status_of({1, 2, 3}), uint32_t{kHookStatusBadRequest});
  std::vector<uint8_t> bytes = ping;
  bytes[0] ^= 1;
  EXPECT_EQ(status_of(bytes), uint32_t{kHookStatusBadRequest});
  bytes = ping;
  bytes[11] = 0xff;  // the length's highest byte
  EXPECT_EQ(status_of(bytes), uint32_t{kHookStatusBadRequest});
  bytes = ping;
  bytes.resize(60000);
  EXPECT_EQ(status_of(bytes), uint32_t{kHookStatusBadRequest});
  EXPECT_EQ(status_of(MakeMessage(2, kHookTypePing)), uint32_t{kHookStatusBadRequest});
  EXPECT_EQ(status_of(MakeMessage(1, 99)), uint32_t{kHookStatusUnsupported});
  EXPECT_EQ(status_of(MakeArm(0, 0, {})), uint32_t{kHookStatusBadRequest});
  EXPECT_EQ(status_of(ping), uint32_t{kHookStatusOk});
}

TEST_F(HookSocketTest, ClosesDescriptorsThatNobodyAskedFor) {
  StartTarget();
  std::string fd_directory = "/proc/" + std::to_string(target_->pid()) + "/fd";
  auto count_fds = [&] {
    auto entries = std::filesystem::directory_iterator(fd_directory);
    return std::distance(begin(entries), end(entries));
  };
  RawHook raw(socket_path_);
  ASSERT_TRUE(raw.Hello(1, 1).has_value());
  auto before = count_fds();
  FileDescriptor memfd = MakePageState("x");
  std::vector<int> many(8, memfd.get());
  HookRegion region{.device_major = 1,
                    .device_minor = 1,
                    .inode = 1,
                    .file_offset = 0,
                    .size = kPage,
                    .page_size = kPage,
                    .reserved = 0};
  for (size_t count : {1u, 2u, 8u}) {
    auto fds = std::span<const int>(many).first(count);
    EXPECT_EQ(raw.Ask(MakeMessage(1, kHookTypePing), fds)->status,
              uint32_t{kHookStatusDescriptors});
    uint32_t expected = count == 1 ? kHookStatusRegionNotMapped : kHookStatusDescriptors;
    EXPECT_EQ(raw.Ask(MakeArm(0, 0, {region}), fds)->status, expected);
  }
  EXPECT_EQ(raw.Ask(MakeArm(0, 0, {region}))->status, uint32_t{kHookStatusDescriptors});
  EXPECT_EQ(count_fds(), before);
}

TEST_F(HookSocketTest, SurvivesRandomMessages) {
  StartTarget();
  std::mt19937 random(20240607);
  for (int round = 0; round < 20; ++round) {
    RawHook raw(socket_path_);
    if (round % 2 == 0) {
      ASSERT_TRUE(raw.Hello(1, 1).has_value());
    }
    for (int i = 0; i < 100; ++i) {
      std::vector<uint8_t> bytes(1 + random() % 400);
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
      if (i % 2 == 0) {
        std::vector<uint8_t> header = MakeMessage(1, static_cast<uint16_t>(random() % 8), bytes);
        // Not RELEASE nor HELLO with a right length by chance: nothing here is armed anyway.
        bytes = header;
      }
      ASSERT_TRUE(raw.Ask(bytes).has_value()) << "round " << round << ", message " << i;
    }
  }
  EXPECT_TRUE(Served().ok()) << Served();
}

TEST_F(HookSocketTest, SaysThatTheHookIsNotLoaded) {
  ExpectWords(ConnectError(socket_path_), absl::StatusCode::kNotFound,
              "-plugin /path/to/faultline-qemu.so,socket=" + socket_path_);
  ExpectWords(ConnectError(std::string(200, 'x')), absl::StatusCode::kInvalidArgument, "107");
}

TEST_F(HookSocketTest, SaysThatSomethingElseListens) {
  std::string stream_path = scratch_.path() + "/stream";
  FileDescriptor stream = Listen(stream_path, SOCK_STREAM);
  ExpectWords(ConnectError(stream_path), absl::StatusCode::kFailedPrecondition,
              "not a Faultline hook");
  std::string silent_path = scratch_.path() + "/silent";
  FileDescriptor silent = Listen(silent_path, SOCK_SEQPACKET);
  ExpectWords(ConnectError(silent_path, 200), absl::StatusCode::kFailedPrecondition,
              "not a Faultline hook (no answer within 200 ms)");
}

}  // namespace
}  // namespace faultline
