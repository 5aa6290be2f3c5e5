// The hook's socket: one client at a time, requests answered in order.
#ifndef FAULTLINE_HOOK_HOOK_SERVER_H_
#define FAULTLINE_HOOK_HOOK_SERVER_H_

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hook/armed_memory.h"
#include "hook/tracked_memory.h"

// What the hook says of itself in HELLO, for people.
#define HOOK_RELEASE "0.1.0"

// Thread safety: HookServerOpen before the thread exists, HookServerRun on the thread,
// HookServerForget in a forked child, HookServerRemoveSocket at exit.
struct HookServer {
  // Constant after HookServerOpen.
  char socket_path[PATH_MAX];  // absolute, since -daemonize changes the directory
  pid_t owner;                 // the process that made the socket
  // The thread's own, but for closing in a forked child.
  _Atomic int listen_fd;
  _Atomic int maps_fd;  // /proc/self/maps, opened early so that -chroot does not hide it
  // /proc/self/pagemap and .../clear_refs, as early; -1: it could not be opened.
  _Atomic int pagemap_fd;
  _Atomic int clear_refs_fd;
  _Atomic int client_fd;
  struct HookArmedMemory memory;
  struct HookTrackedMemory tracked;  // ends with the client that asked for it
  pid_t client_pid;
  uint16_t version;            // negotiated with the client; 0 before HELLO
  int refusals_told;           // of other users, on stderr
  int64_t hello_deadline_ms;   // CLOCK_MONOTONIC; the client is dropped if no HELLO came by then
  struct HookRequest request;  // the one being answered
  uint8_t bytes[HOOK_REPLY_BYTES_MAX];
};

// Binds `path` (mode 0600) and listens in the calling process. A stale socket file is replaced; one
// that a live process serves, or a file that is no socket, is an error. Returns false after a
// sentence on stderr.
bool HookServerOpen(struct HookServer* server, const char* path);

// Serves for the life of the process, or until that process closes the hook's descriptors.
void HookServerRun(struct HookServer* server);

// In a forked child: closes every descriptor, so that the child keeps nothing alive.
void HookServerForget(struct HookServer* server);

// Removes the socket file if this process made it.
void HookServerRemoveSocket(const struct HookServer* server);

#endif  // FAULTLINE_HOOK_HOOK_SERVER_H_
