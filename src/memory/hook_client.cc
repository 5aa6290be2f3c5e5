#include "memory/hook_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "memory/hook_replies.h"

namespace faultline {
namespace {

constexpr int kConnectRetryMs = 20;

int64_t NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

// Puts the bytes of `value`, already in wire order, at the end of `bytes`.
template <typename T>
void Append(std::vector<uint8_t>& bytes, const T& value) {
  const auto* begin = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(value));
}

absl::Status ConnectError(const std::string& path, int error_number) {
  switch (error_number) {
    case ENOENT:
      return absl::NotFoundError(
          fmt::format("hook '{0}': there is no such socket, so the hook is not loaded; start the "
                      "hypervisor with -plugin /path/to/faultline-qemu.so,socket={0}",
                      path));
    case ECONNREFUSED:
      return absl::UnavailableError(fmt::format(
          "hook '{}': nobody serves this socket; the hypervisor that made it is gone", path));
    case EPROTOTYPE:
      return absl::FailedPreconditionError(fmt::format(
          "hook '{}': what listens there is not a Faultline hook (a socket of another type); "
          "is it the monitor's?",
          path));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          fmt::format("hook '{}': no permission to connect; run faultline as the hypervisor's user "
                      "or as root",
                      path));
    case EAGAIN:
      return absl::UnavailableError(
          fmt::format("hook '{}': too many clients are waiting for it", path));
    default:
      return ErrnoStatus(error_number, fmt::format("connect to hook '{}'", path));
  }
}

absl::StatusOr<FileDescriptor> ConnectSocket(const std::string& path, int64_t deadline_ms) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        fmt::format("hook '{}': a socket's path has 1 to {} bytes, this one {}", path,
                    sizeof(address.sun_path) - 1, path.size()));
  }
  memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "make a unix socket");
  // A full backlog is EAGAIN, and nothing tells when it has room again.
  while (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN || NowMs() >= deadline_ms) return ConnectError(path, errno);
    poll(nullptr, 0, kConnectRetryMs);
  }
  return fd;
}

// Waits until `fd` can be read. False: the deadline passed, also if there is always something to
// read.
bool WaitReadable(int fd, int64_t deadline_ms) {
  for (;;) {
    int64_t left_ms = deadline_ms - NowMs();
    if (left_ms < 0) return false;
    pollfd event{.fd = fd, .events = POLLIN, .revents = 0};
    int count = poll(&event, 1, static_cast<int>(left_ms));
    if (count > 0) return true;
    if (count == 0) return false;
  }
}

void CollectDescriptors(msghdr& message, std::vector<FileDescriptor>& descriptors) {
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(fd));
      descriptors.emplace_back(fd);
    }
  }
}

HookRegion ToWire(const HookRegionRequest& request) {
  return HookRegion{.device_major = major(request.device),
                    .device_minor = minor(request.device),
                    .inode = request.inode,
                    .file_offset = request.file_offset_bytes,
                    .size = request.size_bytes,
                    .page_size = request.page_size_bytes,
                    .reserved = 0};
}

}  // namespace

HookClient::HookClient(std::string path, FileDescriptor socket, int timeout_ms)
    : path_(std::move(path)), socket_(std::move(socket)), timeout_ms_(timeout_ms) {}

absl::StatusOr<HookClient> HookClient::Connect(const std::string& path, int timeout_ms) {
  ASSIGN_OR_RETURN(FileDescriptor socket, ConnectSocket(path, NowMs() + timeout_ms));
  HookClient client(path, std::move(socket), timeout_ms);
  RETURN_IF_ERROR(client.Hello());
  return client;
}

absl::Status HookClient::NotAHook(const std::string& why) const {
  return absl::FailedPreconditionError(
      fmt::format("hook '{}': what listens there is not a Faultline hook ({})", path_, why));
}

absl::Status HookClient::Hello() {
  HookHello hello{.version_min = HOOK_VERSION_MIN, .version_max = HOOK_VERSION_MAX, .flags = 0};
  HookSwapHello(&hello);
  std::vector<uint8_t> payload;
  Append(payload, hello);
  absl::StatusOr<Reply> reply = Call(kHookTypeHello, payload, {}, {});
  if (absl::IsDeadlineExceeded(reply.status())) {
    return NotAHook(fmt::format("no answer within {} ms", timeout_ms_));
  }
  RETURN_IF_ERROR(reply.status());
  absl::StatusOr<HookInfo> answer = ParseHelloReply(reply->payload);
  if (!answer.ok()) return NotAHook(MessageOf(answer.status()));
  info_ = *std::move(answer);
  // The kernel's word on who made the socket, in this process' numbering; 0 where that has none.
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
    return ErrnoStatus(errno, fmt::format("ask who serves hook '{}'", path_));
  }
  info_.user_id = peer.uid;
  if (peer.pid > 0) info_.process_id = peer.pid;
  return absl::OkStatus();
}

absl::Status HookClient::Send(std::span<const uint8_t> message, std::span<const int> descriptors) {
  iovec part{.iov_base = const_cast<uint8_t*>(message.data()), .iov_len = message.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * HOOK_DESCRIPTORS_MAX)> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    auto* item = reinterpret_cast<cmsghdr*>(control.data());
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    memcpy(CMSG_DATA(item), descriptors.data(), descriptors.size_bytes());
  }
  while (sendmsg(socket_.get(), &header, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    // A hook that refuses the connection says why and closes: its answer is still to be read.
    if (errno == EPIPE || errno == ECONNRESET) return absl::OkStatus();
    return ErrnoStatus(errno, fmt::format("send to hook '{}'", path_));
  }
  return absl::OkStatus();
}

absl::StatusOr<HookHeader> HookClient::Receive(Reply& reply, int64_t deadline_ms) {
  std::vector<uint8_t> bytes(HOOK_REPLY_BYTES_MAX);
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * HOOK_DESCRIPTORS_MAX)> control{};
  msghdr message{};
  ssize_t received = -1;
  do {
    if (!WaitReadable(socket_.get(), deadline_ms)) {
      return absl::DeadlineExceededError(
          fmt::format("hook '{}': no answer within {} ms", path_, timeout_ms_));
    }
    message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    received = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    // A reset is reported once, before the refusal that was sent ahead of it.
  } while (received < 0 && (errno == EINTR || errno == EAGAIN || errno == ECONNRESET));
  if (received < 0) return ErrnoStatus(errno, fmt::format("receive from hook '{}'", path_));
  CollectDescriptors(message, reply.descriptors);
  if (received == 0) {
    return absl::UnavailableError(
        fmt::format("hook '{}': the connection was closed; did the hypervisor end?", path_));
  }
  bytes.resize(static_cast<size_t>(received));
  absl::StatusOr<HookHeader> header = ParseReplyHeader(bytes);
  if (!header.ok()) return NotAHook(MessageOf(header.status()));
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return NotAHook("an answer of the wrong length");
  }
  reply.payload.assign(bytes.begin() + sizeof(HookHeader), bytes.end());
  return *header;
}

absl::StatusOr<HookClient::Reply> HookClient::Call(HookType type, std::span<const uint8_t> payload,
                                                   std::span<const int> descriptors,
                                                   std::span<const HookRegionRequest> names) {
  int64_t deadline_ms = NowMs() + timeout_ms_;
  HookHeader header{.magic = HOOK_MAGIC,
                    .version = info_.version,
                    .type = static_cast<uint16_t>(type),
                    .length = static_cast<uint32_t>(sizeof(HookHeader) + payload.size()),
                    .sequence = ++sequence_,
                    .status = 0,
                    .error_number = 0,
                    .detail = 0};
  HookSwapHeader(&header);
  std::vector<uint8_t> message;
  Append(message, header);
  message.insert(message.end(), payload.begin(), payload.end());
  RETURN_IF_ERROR(Send(message, descriptors));
  for (;;) {
    Reply reply;
    ASSIGN_OR_RETURN(HookHeader answer, Receive(reply, deadline_ms));
    // A connection that is not served gets its refusal without having asked.
    bool refused = answer.status == kHookStatusBusy || answer.status == kHookStatusNotAllowed;
    if (!refused && answer.sequence != sequence_) continue;  // of a call that timed out
    if (!refused && answer.type != (type | HOOK_REPLY_BIT)) {
      return NotAHook(fmt::format("an answer of type {:#x}", answer.type));
    }
    if (answer.status != kHookStatusOk) return HookRefusal(path_, answer, names);
    return reply;
  }
}

absl::StatusOr<std::vector<ArmedRegion>> HookClient::ParseRegions(
    const Reply& reply, size_t descriptor_count, std::span<const HookRegionRequest> names,
    uint64_t* features) const {
  absl::StatusOr<ArmedRegions> result = ParseArmedRegions(reply.payload);
  if (!result.ok()) return NotAHook(MessageOf(result.status()));
  if (reply.descriptors.size() != descriptor_count) {
    return NotAHook(fmt::format("{} file descriptors instead of {}", reply.descriptors.size(),
                                descriptor_count));
  }
  if (!names.empty() && result->regions.size() != names.size()) {
    return NotAHook("another number of regions");
  }
  for (size_t i = 0; i < names.size(); ++i) result->regions[i].region.name = names[i].name;
  *features = result->features;
  return std::move(result->regions);
}

absl::StatusOr<HookClient::Reply> HookClient::AskToRegister(
    HookType type, std::span<const HookRegionRequest> regions, uint64_t features,
    std::vector<int> descriptors) {
  if (regions.empty() || regions.size() > HOOK_REGIONS_MAX) {
    return absl::InvalidArgumentError(
        fmt::format("hook '{}': {} RAM regions cannot be {}; 1 to {} can", path_, regions.size(),
                    type == kHookTypeArm ? "armed" : "tracked", HOOK_REGIONS_MAX));
  }
  FileDescriptor device;
  if (type != kHookTypeInspect) {
    device = FileDescriptor(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  }
  if (device.valid()) descriptors.push_back(device.get());
  HookArm arm{.region_count = static_cast<uint32_t>(regions.size()),
              .flags = device.valid() ? uint32_t{kHookArmHasDevice} : 0,
              .features = features};
  HookSwapArm(&arm);
  std::vector<uint8_t> payload;
  Append(payload, arm);
  for (const HookRegionRequest& request : regions) {
    HookRegion region = ToWire(request);
    HookSwapRegion(&region);
    Append(payload, region);
  }
  return Call(type, payload, descriptors, regions);
}

absl::StatusOr<ArmedRegions> HookClient::Arm(std::span<const HookRegionRequest> regions,
                                             const FileDescriptor& page_state_memfd,
                                             uint64_t features) {
  ASSIGN_OR_RETURN(Reply reply,
                   AskToRegister(kHookTypeArm, regions, features, {page_state_memfd.get()}));
  ArmedRegions armed;
  ASSIGN_OR_RETURN(armed.regions, ParseRegions(reply, 1, regions, &armed.features));
  armed.uffd = std::move(reply.descriptors[0]);
  return armed;
}

absl::StatusOr<ArmedRegions> HookClient::Take() {
  ASSIGN_OR_RETURN(Reply reply, Call(kHookTypeTake, {}, {}, {}));
  ArmedRegions taken;
  ASSIGN_OR_RETURN(taken.regions, ParseRegions(reply, 2, {}, &taken.features));
  taken.uffd = std::move(reply.descriptors[0]);
  taken.page_state = std::move(reply.descriptors[1]);
  return taken;
}

absl::StatusOr<TrackedRegions> HookClient::Track(std::span<const HookRegionRequest> regions,
                                                 uint64_t features) {
  ASSIGN_OR_RETURN(Reply reply, AskToRegister(kHookTypeTrack, regions, features, {}));
  TrackedRegions tracked;
  uint64_t offered = 0;
  ASSIGN_OR_RETURN(tracked.regions, ParseRegions(reply, 2, regions, &offered));
  tracked.uffd = std::move(reply.descriptors[0]);
  tracked.pagemap = std::move(reply.descriptors[1]);
  return tracked;
}

absl::StatusOr<InspectedRegions> HookClient::Inspect(std::span<const HookRegionRequest> regions) {
  ASSIGN_OR_RETURN(Reply reply, AskToRegister(kHookTypeInspect, regions, 0, {}));
  InspectedRegions inspected;
  uint64_t offered = 0;
  ASSIGN_OR_RETURN(inspected.regions, ParseRegions(reply, 2, regions, &offered));
  inspected.pagemap = std::move(reply.descriptors[0]);
  inspected.clear_refs = std::move(reply.descriptors[1]);
  return inspected;
}

absl::Status HookClient::Untrack() { return Call(kHookTypeUntrack, {}, {}, {}).status(); }

absl::Status HookClient::Release() { return Call(kHookTypeRelease, {}, {}, {}).status(); }

absl::Status HookClient::Ping() { return Call(kHookTypePing, {}, {}, {}).status(); }

}  // namespace faultline
