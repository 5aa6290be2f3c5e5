#include "vmm/qemu/qmp_client.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <thread>

#include "vmm/qemu/fake_qmp_server.h"

namespace faultline {
namespace {

FakeQmpServer::Answer Always(const std::string& format) {
  return [format](const std::string&, const std::string& id) {
    return fmt::format(fmt::runtime(format), id);
  };
}

bool Says(const absl::Status& status, const std::string& text) {
  return MessageOf(status).find(text) != std::string::npos;
}

TEST(QmpClient, HeldMonitorIsToldByItsSilence) {
  FakeQmpServer server("", Always(""), /*accepts=*/false);
  auto before = std::chrono::steady_clock::now();
  auto qmp = QmpClient::Connect(server.path(), nullptr, 100);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
  EXPECT_TRUE(Says(qmp.status(), "held by another client")) << qmp.status();
  EXPECT_TRUE(Says(qmp.status(), "-qmp unix:PATH,server=on,wait=off")) << qmp.status();
  EXPECT_TRUE(Says(qmp.status(), server.path())) << qmp.status();
}

TEST(QmpClient, StreamThatIsNotQmp) {
  for (const char* greeting : {"QEMU 7.2.22 monitor - type 'help'\r\n", "{\"hello\": 1}\n",
                               "[1, 2]\n", "SSH-2.0-without-end-of-line"}) {
    FakeQmpServer server(greeting, Always(""));
    auto qmp = QmpClient::Connect(server.path(), nullptr, 200);
    EXPECT_TRUE(absl::IsInvalidArgument(qmp.status())) << qmp.status();
    EXPECT_TRUE(Says(qmp.status(), "is no QMP monitor")) << qmp.status();
  }
}

// What QEMU owed a client that hung up comes first, and may come after the greeting too.
TEST(QmpClient, AnswersToTheClientBeforeAreNotThisOnes) {
  const std::string late = "{\"return\": {\"of\": \"the client before\"}, \"id\": 1}\n";
  FakeQmpServer server(
      "{\"return\": {}, \"id\": 24}\r\n{\"event\": \"SHUTDOWN\", \"data\": {}}\r\n"
      "{\"error\": {\"class\": \"GenericError\", \"desc\": \"late\"}, \"id\": 25}\r\n" +
          std::string(FakeQmpServer::kGreeting) + late,
      Always("{{\"return\": {{\"of\": \"this one\"}}, \"id\": {}}}\n"));
  auto qmp = QmpClient::Connect(server.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  for (int command = 0; command < 3; ++command) {
    auto answer = (*qmp)->Execute("query-status");
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(JsonText(*answer, "of"), "this one");
  }
}

TEST(QmpClient, NoSocketNamesThePathAndTheOption) {
  auto qmp = QmpClient::Connect("/tmp/faultline-no-such-socket", nullptr);
  EXPECT_TRUE(absl::IsNotFound(qmp.status())) << qmp.status();
  EXPECT_TRUE(Says(qmp.status(), "-qmp unix:/tmp/faultline-no-such-socket")) << qmp.status();
}

TEST(QmpClient, ErrorsCarryQemusWords) {
  FakeQmpServer server(FakeQmpServer::kGreeting,
                       [](const std::string& command, const std::string& id) {
                         return fmt::format(
                             "{{\"error\": {{\"class\": \"{}\", \"desc\": \"no such thing\"}}, "
                             "\"id\": {}}}\n",
                             command == "known" ? "GenericError" : "CommandNotFound", id);
                       });
  auto qmp = QmpClient::Connect(server.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  absl::Status known = (*qmp)->Execute("known").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(known)) << known;
  EXPECT_TRUE(Says(known, "'known': no such thing")) << known;
  EXPECT_TRUE(absl::IsUnimplemented((*qmp)->Execute("unknown").status()));
}

TEST(QmpClient, EventsBetweenAnswersAreKept) {
  FakeQmpServer server(
      FakeQmpServer::kGreeting,
      Always("{{\"event\": \"STOP\", \"timestamp\": {{}}}}\n"
             "{{\"event\": \"MIGRATION\", \"data\": {{\"status\": \"active\"}}}}\n"
             "{{\"return\": {{\"status\": \"paused\"}}, \"id\": {}}}\n"
             "{{\"event\": \"MIGRATION\", \"data\": {{\"status\": \"completed\"}}}}\n"));
  auto qmp = QmpClient::Connect(server.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  auto answer = (*qmp)->Execute("query-status");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(JsonText(*answer, "status"), "paused");
  auto completed = (*qmp)->WaitForEvent(
      [](const QmpEvent& event) { return JsonText(event.data, "status") == "completed"; }, 1000,
      "the end");
  EXPECT_TRUE(completed.ok()) << completed.status();
  auto stop = (*qmp)->WaitForEvent([](const QmpEvent& event) { return event.name == "STOP"; }, 50,
                                   "the stop");
  EXPECT_TRUE(absl::IsDeadlineExceeded(stop.status())) << stop.status();
}

TEST(QmpClient, CancelEndsAWaitAndTheClientGoesOn) {
  bool silent = true;
  FakeQmpServer server(FakeQmpServer::kGreeting, [&](const std::string&, const std::string& id) {
    std::string late = silent ? "" : fmt::format("{{\"return\": 1, \"id\": {}}}\n", id);
    silent = false;
    return late;
  });
  CancelEvent cancel;
  auto qmp = QmpClient::Connect(server.path(), &cancel);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  auto waiting = std::async(std::launch::async, [&] {
    return (*qmp)->Execute("first", Json::object(), QmpClient::kNoTimeout).status();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  cancel.Set();
  absl::Status cancelled = waiting.get();
  EXPECT_TRUE(absl::IsCancelled(cancelled)) << cancelled;
  cancel.Reset();
  auto second = (*qmp)->Execute("second");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(JsonNumber(*second), 1u);
}

TEST(QmpClient, LateAnswerOfATimedOutCommandIsNotTheNextOnes) {
  int asked = 0;
  FakeQmpServer server(
      FakeQmpServer::kGreeting, [&](const std::string&, const std::string& id) -> std::string {
        if (++asked == 1) return "";
        // The first command's answer comes now, then the second's.
        return fmt::format("{{\"return\": 111, \"id\": {}}}\n", std::stoull(id) - 1) +
               fmt::format("{{\"return\": 222, \"id\": {}}}\n", id);
      });
  auto qmp = QmpClient::Connect(server.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  EXPECT_TRUE(absl::IsDeadlineExceeded((*qmp)->Execute("slow", Json::object(), 30).status()));
  auto answer = (*qmp)->Execute("next");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(JsonNumber(*answer), 222u);
}

TEST(QmpClient, ClosedAndGarbledConnectionsAreErrors) {
  FakeQmpServer closing(FakeQmpServer::kGreeting, Always("close"));
  auto qmp = QmpClient::Connect(closing.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  absl::Status closed = (*qmp)->Execute("query-status").status();
  EXPECT_TRUE(absl::IsUnavailable(closed)) << closed;
  FakeQmpServer garbling(FakeQmpServer::kGreeting, Always("%$#! {}\n"));
  qmp = QmpClient::Connect(garbling.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  absl::Status garbled = (*qmp)->Execute("query-status").status();
  EXPECT_TRUE(absl::IsInvalidArgument(garbled)) << garbled;
}

// Copying a value goes as deep into the stack as it is nested.
TEST(QmpClient, AnswersNestedWithoutEndAreRefused) {
  for (size_t depth : {50, 5'000'000}) {
    FakeQmpServer server(FakeQmpServer::kGreeting,
                         [depth](const std::string& command, const std::string& id) {
                           if (command != "deep") return EmptyReturn(id);
                           return "{\"return\": " + std::string(depth, '[') +
                                  std::string(depth, ']') + ", \"id\": " + id + "}\n";
                         });
    auto qmp = QmpClient::Connect(server.path(), nullptr);
    ASSERT_TRUE(qmp.ok()) << qmp.status();
    absl::Status status = (*qmp)->Execute("deep").status();
    EXPECT_EQ(status.ok(), depth == 50) << status;
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
  }
}

TEST(QmpClient, DescriptorTravelsWithItsCommand) {
  FakeQmpServer server(FakeQmpServer::kGreeting, Always("{{\"return\": {{}}, \"id\": {}}}\n"));
  auto qmp = QmpClient::Connect(server.path(), nullptr);
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  absl::Status sent = (*qmp)->SendDescriptor("devices", pair->first.get());
  EXPECT_TRUE(sent.ok()) << sent;
  EXPECT_EQ(server.received_descriptors(), 1);
  EXPECT_EQ(JsonText(JsonMember(server.requests().back(), "arguments"), "fdname"), "devices");
}

TEST(QmpClient, InheritedConnectionMayStartInsideAMessage) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  FileDescriptor qemu = std::move(pair->second);
  const std::string rest =
      "tatus\": \"running\"}, \"id\": 7}\n"
      "{\"event\": \"STOP\"}\n{\"return\": {}, \"id\": 8}\n";
  ASSERT_EQ(write(qemu.get(), rest.data(), rest.size()), static_cast<ssize_t>(rest.size()));
  auto qmp = QmpClient::Inherit(std::move(pair->first), "inherited");
  ASSERT_TRUE(qmp.ok()) << qmp.status();
  auto answer = std::async(std::launch::async, [&] { return (*qmp)->Execute("query-status"); });
  std::string received;
  while (received.find('\n') == std::string::npos) {
    char chunk[512];
    ssize_t got = read(qemu.get(), chunk, sizeof(chunk));
    ASSERT_GT(got, 0);
    received.append(chunk, static_cast<size_t>(got));
  }
  // The byte that makes QEMU forget a half-written command comes first.
  EXPECT_EQ(received[0], '\xff');
  Json request = Json::parse(received.substr(1), nullptr, false);
  const std::string reply =
      "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n" +
      fmt::format("{{\"return\": {{\"status\": \"paused\"}}, \"id\": {}}}\n",
                  JsonMember(request, "id").dump());
  ASSERT_EQ(write(qemu.get(), reply.data(), reply.size()), static_cast<ssize_t>(reply.size()));
  auto status = answer.get();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(JsonText(*status, "status"), "paused");
}

}  // namespace
}  // namespace faultline
