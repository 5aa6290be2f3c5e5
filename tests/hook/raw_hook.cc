#include "hook/raw_hook.h"

#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "base/check.h"

namespace faultline {
namespace {

constexpr int kAnswerTimeoutMs = 5000;

template <typename T>
void Append(std::vector<uint8_t>& bytes, const T& value) {
  const auto* begin = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(value));
}

}  // namespace

RawHook::RawHook(const std::string& path) {
  absl::StatusOr<FileDescriptor> socket = ConnectUnix(path, SOCK_SEQPACKET);
  FAULTLINE_CHECK(socket.ok());
  socket_ = std::move(socket).value();
}

bool RawHook::Send(std::span<const uint8_t> bytes, std::span<const int> descriptors) {
  iovec part{.iov_base = const_cast<uint8_t*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    auto* item = reinterpret_cast<cmsghdr*>(control);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    memcpy(CMSG_DATA(item), descriptors.data(), descriptors.size_bytes());
  }
  return sendmsg(socket_.get(), &message, MSG_NOSIGNAL) >= 0;
}

std::optional<HookHeader> RawHook::Receive(int timeout_ms) {
  pollfd event{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (poll(&event, 1, timeout_ms) != 1) return std::nullopt;
  std::vector<uint8_t> bytes(HOOK_REPLY_BYTES_MAX);
  ssize_t count = recv(socket_.get(), bytes.data(), bytes.size(), 0);
  if (count < static_cast<ssize_t>(sizeof(HookHeader))) return std::nullopt;
  HookHeader header;
  memcpy(&header, bytes.data(), sizeof(header));
  HookSwapHeader(&header);
  return header;
}

std::optional<HookHeader> RawHook::Ask(std::span<const uint8_t> bytes,
                                       std::span<const int> descriptors) {
  if (!Send(bytes, descriptors)) return std::nullopt;
  return Receive(kAnswerTimeoutMs);
}

std::optional<HookHeader> RawHook::Hello(uint16_t version_min, uint16_t version_max) {
  HookHello hello{.version_min = version_min, .version_max = version_max, .flags = 0};
  HookSwapHello(&hello);
  std::vector<uint8_t> payload;
  Append(payload, hello);
  return Ask(MakeMessage(0, kHookTypeHello, payload));
}

std::vector<uint8_t> MakeMessage(uint16_t version, uint16_t type,
                                 std::span<const uint8_t> payload) {
  HookHeader header{};
  header.magic = HOOK_MAGIC;
  header.version = version;
  header.type = type;
  header.length = static_cast<uint32_t>(sizeof(header) + payload.size());
  header.sequence = 7;
  HookSwapHeader(&header);
  std::vector<uint8_t> bytes;
  Append(bytes, header);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

std::vector<uint8_t> MakeArm(uint32_t flags, uint64_t features,
                             const std::vector<HookRegion>& regions) {
  HookArm arm{
      .region_count = static_cast<uint32_t>(regions.size()), .flags = flags, .features = features};
  HookSwapArm(&arm);
  std::vector<uint8_t> payload;
  Append(payload, arm);
  for (HookRegion region : regions) {
    HookSwapRegion(&region);
    Append(payload, region);
  }
  return MakeMessage(1, kHookTypeArm, payload);
}

}  // namespace faultline
