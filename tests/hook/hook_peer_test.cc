// Who serves the hook's socket: a process of another user, in the place of the VM's, gets nothing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "hook/hook_fixture.h"
#include "memory/hook_armer.h"
#include "memory/page_state_memfd.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uid_t kNobody = 65534;

// A process of user 65534 that serves a socket as a hook would: it answers HELLO, and says on a
// pipe what else it is asked for.
class Stranger {
 public:
  // `ram`, if any, is a file that it has mapped for writing before it lost its rights.
  Stranger(const std::string& path, int ram) {
    int fds[2];
    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      if (ram >= 0) mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, ram, 0);
      if (setresuid(kNobody, kNobody, kNobody) < 0) _exit(1);
      Serve(path, fds[1]);
      _exit(0);
    }
    close(fds[1]);
    said_ = FileDescriptor(fds[0]);
    EXPECT_EQ(Said(), 'l') << "it listens";
  }
  ~Stranger() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  // What it was asked for next: the type of a request; 0 when its client is gone.
  char Said() {
    char word = 0;
    return read(said_.get(), &word, 1) == 1 ? word : 0;
  }

 private:
  static void Serve(const std::string& path, int said) {
    FileDescriptor listener(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) return;
    listen(listener.get(), 1);
    (void)!write(said, "l", 1);
    FileDescriptor client(accept(listener.get(), nullptr, nullptr));
    HookHeader header;
    while (recv(client.get(), &header, sizeof(header), 0) == sizeof(header)) {
      HookSwapHeader(&header);
      if (header.type != kHookTypeHello) {
        const char word = static_cast<char>('0' + header.type);
        (void)!write(said, &word, 1);
        return;
      }
      Answer(client.get(), header);
    }
  }

  static void Answer(int client, HookHeader header) {
    HookHelloReply hello{};
    hello.version = hello.version_min = hello.version_max = 1;
    HookSwapHelloReply(&hello);
    header.type |= HOOK_REPLY_BIT;
    header.status = kHookStatusOk;
    header.length = sizeof(header) + sizeof(hello);
    HookSwapHeader(&header);
    std::vector<char> bytes(sizeof(header) + sizeof(hello));
    memcpy(bytes.data(), &header, sizeof(header));
    memcpy(bytes.data() + sizeof(header), &hello, sizeof(hello));
    (void)!send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

  pid_t pid_ = -1;
  FileDescriptor said_;
};

class HookPeerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to be another user";
    ASSERT_EQ(chmod(scratch_.path().c_str(), 0777), 0);
    path_ = scratch_.MakeFile("ram", kMiB);
    file_ = FileDescriptor(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    regions_.push_back({.layout = {"ram", kMiB, kPage}, .file = file_.get()});
  }

  absl::Status Arm() {
    HookArmer armer(socket_, kTimeoutMs);
    RETURN_IF_ERROR(armer.Attach().status());
    ASSIGN_OR_RETURN(PageStateMemfd table, PageStateMemfd::Create({{"ram", kMiB, kPage}}));
    return armer.Arm(regions_, table.memfd(), 0).status();
  }

  absl::Status Take() {
    HookArmer armer(socket_, kTimeoutMs);
    RETURN_IF_ERROR(armer.Attach().status());
    return armer.Take(regions_).status();
  }

  ScratchDirectory scratch_;
  const std::string socket_ = scratch_.path() + "/hook";
  std::string path_;
  FileDescriptor file_;
  std::vector<RamRegion> regions_;
};

TEST_F(HookPeerTest, AnotherUserIsNotAskedToArm) {
  Stranger stranger(socket_, -1);
  absl::Status armed = Arm();
  EXPECT_TRUE(absl::IsPermissionDenied(armed)) << armed;
  EXPECT_THAT(MessageOf(armed), AllOf(HasSubstr("user 65534"), HasSubstr("'ram' is user 0's")));
  EXPECT_EQ(stranger.Said(), 0) << "no request but HELLO came";
}

TEST_F(HookPeerTest, NothingIsTakenFromAnotherUser) {
  Stranger stranger(socket_, -1);
  absl::Status taken = Take();
  EXPECT_TRUE(absl::IsPermissionDenied(taken)) << taken;
  EXPECT_EQ(stranger.Said(), 0) << "no request but HELLO came";
}

TEST_F(HookPeerTest, TheRamFilesOwnerIsTheVmsUser) {
  ASSERT_EQ(chown(path_.c_str(), kNobody, kNobody), 0);
  Stranger owner(socket_, -1);
  EXPECT_FALSE(Arm().ok());  // it hangs up
  EXPECT_EQ(owner.Said(), '0' + kHookTypeArm);
}

TEST_F(HookPeerTest, SoIsWhoHasTheRamFileMappedForWriting) {
  Stranger vm(socket_, file_.get());
  EXPECT_FALSE(Take().ok());
  EXPECT_EQ(vm.Said(), '0' + kHookTypeTake);
}

}  // namespace
}  // namespace faultline
