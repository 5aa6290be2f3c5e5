// The engine's end of the hook's socket against something that is no good hook.
#include "memory/hook_client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <string_view>
#include <thread>

#include "memory/hook_replies.h"

namespace faultline {
namespace {

// Listens at a socket and does `serve` with its one client.
class FalseHook {
 public:
  explicit FalseHook(std::function<void(int)> serve)
      : path_("/tmp/faultline_false_hook." + std::to_string(getpid())) {
    unlink(path_.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    thread_ = std::thread([this, serve = std::move(serve)] {
      FileDescriptor client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      serve(client.get());
    });
  }
  ~FalseHook() {
    thread_.join();
    unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
  FileDescriptor listener_{socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  std::thread thread_;
};

std::vector<uint8_t> Reply(uint32_t sequence, const std::vector<uint8_t>& payload) {
  HookHeader header{.magic = HOOK_MAGIC,
                    .version = 1,
                    .type = kHookTypeHello | HOOK_REPLY_BIT,
                    .length = static_cast<uint32_t>(sizeof(HookHeader) + payload.size()),
                    .sequence = sequence,
                    .status = kHookStatusOk,
                    .error_number = 0,
                    .detail = 0};
  HookSwapHeader(&header);
  std::vector<uint8_t> message(sizeof(header) + payload.size());
  memcpy(message.data(), &header, sizeof(header));
  std::copy(payload.begin(), payload.end(), message.begin() + sizeof(header));
  return message;
}

std::vector<uint8_t> HelloPayload(std::string_view release) {
  HookHelloReply reply{};
  reply.version = reply.version_min = reply.version_max = 1;
  release.copy(reply.release, sizeof(reply.release));
  HookSwapHelloReply(&reply);
  std::vector<uint8_t> payload(sizeof(reply));
  memcpy(payload.data(), &reply, sizeof(reply));
  return payload;
}

TEST(HookClientTest, AnswersOfOtherCallsWithoutEndAreNotWaitedFor) {
  FalseHook hook([](int client) {
    const std::vector<uint8_t> answer = Reply(/*sequence=*/77, HelloPayload("1"));
    while (send(client, answer.data(), answer.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  const auto begin = std::chrono::steady_clock::now();
  absl::Status status = HookClient::Connect(hook.path(), /*timeout_ms=*/300).status();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(MessageOf(status).find(hook.path()), std::string::npos) << status;
}

TEST(HookClientTest, AnswersThatNoHookGives) {
  std::vector<uint8_t> magic = Reply(1, HelloPayload("1"));
  magic[0] = 'X';
  std::vector<uint8_t> longer = Reply(1, HelloPayload("1"));
  longer.push_back(0);
  for (const auto& [answer, words] :
       {std::pair(Reply(1, {}), "a short HELLO"), std::pair(magic, "another magic number"),
        std::pair(longer, "wrong length"),
        std::pair(std::vector<uint8_t>(8, 0), "a short answer")}) {
    FalseHook hook([&answer = answer](int client) {
      send(client, answer.data(), answer.size(), MSG_NOSIGNAL);
    });
    absl::Status status = HookClient::Connect(hook.path(), /*timeout_ms=*/3000).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(MessageOf(status).find(words), std::string::npos) << status;
  }
}

TEST(HookRepliesTest, ReleaseIsFitForATerminal) {
  absl::StatusOr<HookInfo> info = ParseHelloReply(HelloPayload("1\x1b[31m\xff"));
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->release, "1?[31m?");
}

}  // namespace
}  // namespace faultline
