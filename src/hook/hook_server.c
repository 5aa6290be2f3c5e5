#include "hook/hook_server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hook/memory_map.h"

enum {
  kHelloTimeoutMs = 5000,
  // After accept failed for want of descriptors or memory: how long until it is tried again.
  kAcceptPauseMs = 100,
  // Of the users who are turned away; a log that they could fill would be theirs.
  kRefusalsToldMax = 8,
};

// A request's descriptors. Those not taken over (set to -1) are closed after the answer.
struct Descriptors {
  int count;
  int fds[HOOK_DESCRIPTORS_MAX];
  bool too_many;
};

// The answer that is being built; its payload stands in the server's `bytes` after the header.
struct Reply {
  struct HookHeader header;
  size_t payload_bytes;
  int fd_count;
  int fds[HOOK_DESCRIPTORS_MAX];
};

static int64_t NowMs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// What a client tracked ends with it: a VM is not slowed for nobody.
static void DropClient(struct HookServer* server) {
  HookStopTracking(&server->tracked);
  HookCloseSlot(&server->client_fd);
  server->version = 0;
  server->client_pid = 0;
}

// Sends one packet without waiting: a client that does not read its answers is not waited for.
static bool SendPacket(int socket_fd, const void* bytes, size_t length, const int* fds,
                       int fd_count) {
  struct iovec part = {.iov_base = (void*)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * HOOK_DESCRIPTORS_MAX)];
  } control;
  if (fd_count > 0) {
    memset(&control, 0, sizeof(control));
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
    struct cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
    memcpy(CMSG_DATA(item), fds, sizeof(int) * (size_t)fd_count);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == (ssize_t)length;
}

// Tells a connection that is not served why, before it is closed.
static void SendRefusal(int socket_fd, enum HookStatus status, uint64_t detail) {
  struct HookHeader header = {.magic = HOOK_MAGIC,
                              .type = kHookTypeHello | HOOK_REPLY_BIT,
                              .length = sizeof(header),
                              .status = status,
                              .detail = detail};
  HookSwapHeader(&header);
  (void)SendPacket(socket_fd, &header, sizeof(header), NULL, 0);
}

static void TellRefusal(struct HookServer* server, const struct ucred* peer) {
  if (server->refusals_told >= kRefusalsToldMax) return;
  ++server->refusals_told;
  fprintf(stderr,
          "faultline-qemu.so: socket '%s': process %d of user %u was turned away: the hook talks "
          "only to user %u and root%s\n",
          server->socket_path, (int)peer->pid, (unsigned)peer->uid, (unsigned)geteuid(),
          server->refusals_told < kRefusalsToldMax ? "" : " (more are not told)");
}

static void AcceptClient(struct HookServer* server) {
  int fd = accept4(atomic_load(&server->listen_fd), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      (void)poll(NULL, 0, kAcceptPauseMs);
    }
    return;
  }
  struct ucred peer = {.uid = (uid_t)-1};
  socklen_t peer_bytes = sizeof(peer);
  int result = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes);
  if (result < 0 || (peer.uid != geteuid() && peer.uid != 0)) {
    TellRefusal(server, &peer);
    SendRefusal(fd, kHookStatusNotAllowed, geteuid());
    close(fd);
    return;
  }
  if (atomic_load(&server->client_fd) >= 0) {
    SendRefusal(fd, kHookStatusBusy, (uint64_t)server->client_pid);
    close(fd);
    return;
  }
  server->client_pid = peer.pid;
  server->version = 0;
  server->hello_deadline_ms = NowMs() + kHelloTimeoutMs;
  atomic_store(&server->client_fd, fd);
}

static void PutPayload(struct HookServer* server, struct Reply* reply, const void* bytes,
                       size_t length) {
  memcpy(server->bytes + sizeof(struct HookHeader) + reply->payload_bytes, bytes, length);
  reply->payload_bytes += length;
}

static enum HookStatus AnswerHello(struct HookServer* server, struct Reply* reply) {
  const struct HookHello* hello = &server->request.hello;
  if (hello->version_min > HOOK_VERSION_MAX || hello->version_max < HOOK_VERSION_MIN) {
    reply->header.detail = HOOK_VERSION_MIN << 16 | HOOK_VERSION_MAX;
    return kHookStatusVersion;
  }
  uint16_t version = hello->version_max < HOOK_VERSION_MAX ? hello->version_max : HOOK_VERSION_MAX;
  struct HookHelloReply answer = {.version = version,
                                  .version_min = HOOK_VERSION_MIN,
                                  .version_max = HOOK_VERSION_MAX,
                                  .process_id = (uint32_t)getpid(),
                                  .flags = HookIsArmed(&server->memory) ? kHookHelloArmed : 0,
                                  .release = HOOK_RELEASE};
  HookSwapHelloReply(&answer);
  PutPayload(server, reply, &answer, sizeof(answer));
  server->version = version;
  return kHookStatusOk;
}

static void PutRegions(struct HookServer* server, struct Reply* reply,
                       const struct HookMemory* memory) {
  struct HookRegions regions = {.region_count = memory->region_count, .features = memory->features};
  HookSwapRegions(&regions);
  PutPayload(server, reply, &regions, sizeof(regions));
  for (uint32_t i = 0; i < memory->region_count; ++i) {
    struct HookArmedRegion region = memory->regions[i];
    HookSwapArmedRegion(&region);
    PutPayload(server, reply, &region, sizeof(region));
  }
}

static void PutArmed(struct HookServer* server, struct Reply* reply) {
  PutRegions(server, reply, &server->memory.found);
}

static enum HookStatus AnswerArm(struct HookServer* server, struct Descriptors* descriptors,
                                 struct Reply* reply) {
  if (HookIsArmed(&server->memory)) return kHookStatusAlreadyArmed;
  if (HookIsTracking(&server->tracked)) return kHookStatusAlreadyTracked;
  bool has_device = (server->request.arm.flags & kHookArmHasDevice) != 0;
  struct stat page_state;
  if (descriptors->too_many || descriptors->count != (has_device ? 2 : 1) ||
      fstat(descriptors->fds[0], &page_state) < 0 || !S_ISREG(page_state.st_mode)) {
    reply->header.detail = (uint64_t)descriptors->count;
    return kHookStatusDescriptors;
  }
  struct HookRefusal refusal = {0};
  enum HookStatus status =
      HookArmMemory(&server->memory, &server->request, atomic_load(&server->maps_fd),
                    descriptors->fds[0], has_device ? descriptors->fds[1] : -1, &refusal);
  reply->header.detail = refusal.detail;
  reply->header.error_number = (uint32_t)refusal.error_number;
  if (status != kHookStatusOk) return status;
  descriptors->fds[0] = -1;
  PutArmed(server, reply);
  reply->fds[reply->fd_count++] = atomic_load(&server->memory.uffd);
  return kHookStatusOk;
}

static enum HookStatus AnswerTake(struct HookServer* server, struct Reply* reply) {
  if (!HookIsArmed(&server->memory)) return kHookStatusNotArmed;
  PutArmed(server, reply);
  reply->fds[reply->fd_count++] = atomic_load(&server->memory.uffd);
  reply->fds[reply->fd_count++] = atomic_load(&server->memory.page_state);
  return kHookStatusOk;
}

static enum HookStatus AnswerRelease(struct HookServer* server) {
  if (!HookIsArmed(&server->memory)) return kHookStatusNotArmed;
  HookReleaseMemory(&server->memory);
  return kHookStatusOk;
}

static enum HookStatus AnswerTrack(struct HookServer* server, const struct Descriptors* descriptors,
                                   struct Reply* reply) {
  if (HookIsArmed(&server->memory)) return kHookStatusAlreadyArmed;
  if (HookIsTracking(&server->tracked)) return kHookStatusAlreadyTracked;
  bool has_device = (server->request.arm.flags & kHookArmHasDevice) != 0;
  if (descriptors->too_many || descriptors->count != (has_device ? 1 : 0)) {
    reply->header.detail = (uint64_t)descriptors->count;
    return kHookStatusDescriptors;
  }
  int pagemap_fd = atomic_load(&server->pagemap_fd);
  if (pagemap_fd < 0) {
    reply->header.error_number = ENOENT;
    return kHookStatusSystem;
  }
  struct HookRefusal refusal = {0};
  struct HookTrackedMemory* tracked = &server->tracked;
  enum HookStatus status = HookTrackMemory(tracked, &server->request, atomic_load(&server->maps_fd),
                                           has_device ? descriptors->fds[0] : -1, &refusal);
  reply->header.detail = refusal.detail;
  reply->header.error_number = (uint32_t)refusal.error_number;
  if (status != kHookStatusOk) return status;
  PutRegions(server, reply, &tracked->found);
  reply->fds[reply->fd_count++] = atomic_load(&tracked->uffd);
  reply->fds[reply->fd_count++] = pagemap_fd;
  return kHookStatusOk;
}

// Says where regions are and lends the process' own files, from which an engine of an older kernel
// reads what was written. Nothing is kept of it.
static enum HookStatus AnswerInspect(struct HookServer* server, struct Reply* reply) {
  const struct HookRequest* request = &server->request;
  if (request->arm.flags != 0) {
    reply->header.detail = request->arm.flags;
    return kHookStatusUnsupported;
  }
  int pagemap_fd = atomic_load(&server->pagemap_fd);
  int clear_refs_fd = atomic_load(&server->clear_refs_fd);
  if (pagemap_fd < 0 || clear_refs_fd < 0) {
    reply->header.error_number = ENOENT;
    return kHookStatusSystem;
  }
  struct HookMemory found = {0};
  struct HookRefusal refusal = {0};
  enum HookStatus status = HookFindMemory(&found, request, atomic_load(&server->maps_fd), &refusal);
  reply->header.detail = refusal.detail;
  reply->header.error_number = (uint32_t)refusal.error_number;
  if (status != kHookStatusOk) return status;
  PutRegions(server, reply, &found);
  reply->fds[reply->fd_count++] = pagemap_fd;
  reply->fds[reply->fd_count++] = clear_refs_fd;
  return kHookStatusOk;
}

static enum HookStatus AnswerUntrack(struct HookServer* server) {
  if (!HookIsTracking(&server->tracked)) return kHookStatusNotTracked;
  HookStopTracking(&server->tracked);
  return kHookStatusOk;
}

static enum HookStatus Answer(struct HookServer* server, struct Descriptors* descriptors,
                              struct Reply* reply) {
  const struct HookHeader* header = &server->request.header;
  if (header->type == kHookTypeHello) return AnswerHello(server, reply);
  if (server->version == 0) return kHookStatusHelloFirst;
  if (header->version != server->version) {
    reply->header.detail = offsetof(struct HookHeader, version);
    return kHookStatusBadRequest;
  }
  switch (header->type) {
    case kHookTypeArm:
      return AnswerArm(server, descriptors, reply);
    case kHookTypeTake:
      return AnswerTake(server, reply);
    case kHookTypeRelease:
      return AnswerRelease(server);
    case kHookTypeTrack:
      return AnswerTrack(server, descriptors, reply);
    case kHookTypeUntrack:
      return AnswerUntrack(server);
    case kHookTypeInspect:
      return AnswerInspect(server, reply);
    default:
      return kHookStatusOk;  // PING; the parser lets no other type through
  }
}

static bool SendReply(struct HookServer* server, struct Reply* reply) {
  struct HookHeader* header = &reply->header;
  header->magic = HOOK_MAGIC;
  header->version = server->version;
  header->type = (uint16_t)(server->request.header.type | HOOK_REPLY_BIT);
  header->sequence = server->request.header.sequence;
  header->length = (uint32_t)(sizeof(*header) + reply->payload_bytes);
  size_t length = header->length;
  HookSwapHeader(header);
  memcpy(server->bytes, header, sizeof(*header));
  return SendPacket(atomic_load(&server->client_fd), server->bytes, length, reply->fds,
                    reply->fd_count);
}

static void CloseDescriptors(const struct Descriptors* descriptors) {
  for (int i = 0; i < descriptors->count; ++i) {
    if (descriptors->fds[i] >= 0) close(descriptors->fds[i]);
  }
}

static void HandlePacket(struct HookServer* server, size_t length,
                         struct Descriptors* descriptors) {
  struct Reply reply = {0};
  bool was_armed = HookIsArmed(&server->memory);
  enum HookStatus status =
      HookParseRequest(server->bytes, length, &server->request, &reply.header.detail);
  bool expects_descriptors =
      server->request.header.type == kHookTypeArm || server->request.header.type == kHookTypeTrack;
  if (status == kHookStatusOk && !expects_descriptors &&
      (descriptors->count > 0 || descriptors->too_many)) {
    status = kHookStatusDescriptors;
    reply.header.detail = (uint64_t)descriptors->count;
  } else if (status == kHookStatusOk) {
    status = Answer(server, descriptors, &reply);
  }
  // Before the answer, so that who has it knows that they are closed.
  CloseDescriptors(descriptors);
  reply.header.status = status;
  if (SendReply(server, &reply)) return;
  // An ARM whose answer cannot be delivered has been handed to nobody; so has a TRACK, which ends
  // with the client.
  if (!was_armed && HookIsArmed(&server->memory)) HookReleaseMemory(&server->memory);
  DropClient(server);
}

static void CollectDescriptors(struct msghdr* message, struct Descriptors* descriptors) {
  descriptors->too_many = (message->msg_flags & MSG_CTRUNC) != 0;
  for (struct cmsghdr* item = CMSG_FIRSTHDR(message); item; item = CMSG_NXTHDR(message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(fd));
      if (descriptors->count < (int)HOOK_DESCRIPTORS_MAX) {
        descriptors->fds[descriptors->count++] = fd;
      } else {
        descriptors->too_many = true;
        close(fd);
      }
    }
  }
}

static void ReadClient(struct HookServer* server) {
  struct iovec part = {.iov_base = server->bytes, .iov_len = sizeof(server->bytes)};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * HOOK_DESCRIPTORS_MAX)];
  } control;
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof(control.bytes)};
  ssize_t received =
      recvmsg(atomic_load(&server->client_fd), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (received <= 0) {
    DropClient(server);
    return;
  }
  struct Descriptors descriptors = {.fds = {-1, -1}};
  CollectDescriptors(&message, &descriptors);
  // A packet that was cut is longer than any request, so its header names a length that the parser
  // does not find.
  HandlePacket(server, (size_t)received, &descriptors);
}

static int PollTimeoutMs(const struct HookServer* server) {
  if (atomic_load(&server->client_fd) < 0 || server->version != 0) return -1;
  int64_t left_ms = server->hello_deadline_ms - NowMs();
  return left_ms > 0 ? (int)left_ms : 0;
}

void HookServerRun(struct HookServer* server) {
  for (;;) {
    int client_fd = atomic_load(&server->client_fd);
    struct pollfd events[2] = {{.fd = atomic_load(&server->listen_fd), .events = POLLIN},
                               {.fd = client_fd, .events = POLLIN}};
    if (poll(events, 2, PollTimeoutMs(server)) < 0) continue;
    // The process has closed descriptors that are not its own: going on would be a busy loop.
    if (((events[0].revents | events[1].revents) & POLLNVAL) != 0) return;
    // The client first: one that has left makes room for the next.
    if (events[1].revents != 0) ReadClient(server);
    if (PollTimeoutMs(server) == 0) DropClient(server);
    if (events[0].revents != 0) AcceptClient(server);
  }
}
