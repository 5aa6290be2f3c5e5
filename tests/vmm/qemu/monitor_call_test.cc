// Who hung up and who has ended, by what their monitors' sockets and processes do.
#include "vmm/qemu/monitor_call.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <vector>

#include "vmm/qemu/fake_qmp_server.h"

namespace faultline {
namespace {

bool Mentions(const absl::Status& status, const std::string& text) {
  return MessageOf(status).find(text) != std::string::npos;
}

FakeQmpServer::Answer Empty() {
  return [](const std::string&, const std::string& id) { return EmptyReturn(id); };
}

// Hangs up at each `quit`, the first `times` times.
FakeQmpServer::Answer HangsUp(int times) {
  return [left = times](const std::string& command, const std::string& id) mutable {
    return command == "quit" && left-- > 0 ? std::string("close") : EmptyReturn(id);
  };
}

absl::Status AskToQuit(std::unique_ptr<QmpClient>* qmp, const MonitorCall& call) {
  return AskAgainIfLost(qmp, call, [&] { return (*qmp)->Execute("quit").status(); });
}

TEST(MonitorCall, OneThatHungUpIsAskedAgain) {
  FakeQmpServer server(FakeQmpServer::kGreeting, HangsUp(2), true, 5);
  std::unique_ptr<QmpClient> qmp;  // the first connection is made the same way
  absl::Status asked = AskToQuit(&qmp, {.path = server.path()});
  EXPECT_TRUE(asked.ok()) << asked;
}

// It takes calls, so it has not ended, whatever it does with them.
TEST(MonitorCall, OneThatHangsUpEachTimeHasNotEnded) {
  FakeQmpServer server(FakeQmpServer::kGreeting, HangsUp(100), true, 100);
  std::unique_ptr<QmpClient> qmp;
  absl::Status asked = AskToQuit(&qmp, {.path = server.path()});
  EXPECT_TRUE(absl::IsFailedPrecondition(asked)) << asked;
  EXPECT_TRUE(Mentions(asked, "QEMU lives")) << asked;
}

TEST(MonitorCall, OneThatGivesNoGreetingHasNotEnded) {
  FakeQmpServer server(FakeQmpServer::kGreeting, Empty(), /*accepts=*/false);
  std::unique_ptr<QmpClient> qmp;
  absl::Status asked = AskToQuit(&qmp, {.path = server.path(), .patience_ms = 50});
  EXPECT_TRUE(absl::IsFailedPrecondition(asked)) << asked;
  EXPECT_TRUE(Mentions(asked, "held by another client")) << asked;
}

// As many clients as may wait to be taken.
std::vector<FileDescriptor> FillQueue(const std::string& path) {
  std::vector<FileDescriptor> waiting;
  while (true) {
    auto next = ConnectUnix(path, SOCK_STREAM | SOCK_NONBLOCK);
    if (!next.ok()) {
      EXPECT_TRUE(absl::IsResourceExhausted(next.status())) << next.status();
      return waiting;
    }
    waiting.push_back(std::move(*next));
  }
}

TEST(MonitorCall, OneThatOthersWaitForHasNotEnded) {
  FakeQmpServer server(FakeQmpServer::kGreeting, Empty(), /*accepts=*/false);
  std::vector<FileDescriptor> waiting = FillQueue(server.path());
  std::unique_ptr<QmpClient> qmp;
  absl::Status asked = AskToQuit(&qmp, {.path = server.path(), .patience_ms = 50});
  EXPECT_TRUE(absl::IsFailedPrecondition(asked)) << asked;
  EXPECT_TRUE(Mentions(asked, "too many clients")) << asked;
}

// Its socket's name is gone, and its process is not.
TEST(MonitorCall, OneWhoseSocketWasRemovedHasNotEnded) {
  FakeQmpServer server(FakeQmpServer::kGreeting, HangsUp(1), true, 2);
  auto qmp = QmpClient::Connect(server.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  auto process = MonitoredProcess::Find(qmp->get());
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(process->id(), getpid());
  ASSERT_EQ(unlink(server.path().c_str()), 0);
  absl::Status asked =
      AskToQuit(&*qmp, {.path = server.path(), .process = &*process, .patience_ms = 50});
  EXPECT_TRUE(absl::IsFailedPrecondition(asked)) << asked;
  EXPECT_TRUE(Mentions(asked, "its process")) << asked;
}

TEST(MonitorCall, NobodyThereIsAnEnd) {
  std::unique_ptr<QmpClient> qmp;
  absl::Status asked = AskToQuit(&qmp, {.path = "/tmp/faultline-no-such-socket"});
  EXPECT_TRUE(absl::IsUnavailable(asked)) << asked;
}

TEST(MonitorCall, OneThatMayWaitForAPageIsWaitedForAndThatIsTold) {
  FakeQmpServer server(FakeQmpServer::kGreeting, Empty(), /*accepts=*/false);
  CancelEvent cancel;
  std::promise<std::string> told;
  std::unique_ptr<QmpClient> qmp;
  MonitorCall call{.path = server.path(),
                   .cancel = &cancel,
                   .patience_ms = 20,
                   .on_delay = [&](const std::string& text) { told.set_value(text); }};
  auto asking = std::async(std::launch::async, [&] { return AskToQuit(&qmp, call); });
  EXPECT_NE(told.get_future().get().find("waits for a page"), std::string::npos);
  EXPECT_EQ(asking.wait_for(std::chrono::milliseconds(200)), std::future_status::timeout);
  cancel.Set();
  EXPECT_TRUE(absl::IsCancelled(asking.get()));
}

}  // namespace
}  // namespace faultline
