// Making and removing the hook's socket file.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hook/hook_server.h"

enum { kBacklog = 8 };

static int NewSocket(void) {
  return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static bool Complain(const char* path, const char* what, int error_number) {
  fprintf(stderr, "faultline-qemu.so: socket '%s': %s%s%s\n", path, what,
          error_number != 0 ? ": " : "", error_number != 0 ? strerror(error_number) : "");
  return false;
}

// Removes a socket file that no process serves any more.
static bool RemoveStale(const struct sockaddr_un* address) {
  const char* path = address->sun_path;
  struct stat file;
  if (lstat(path, &file) < 0) return errno == ENOENT || Complain(path, "cannot look at it", errno);
  if (!S_ISSOCK(file.st_mode)) {
    return Complain(path, "a file that is not a socket is there; choose another path", 0);
  }
  int probe = NewSocket();
  if (probe < 0) return Complain(path, "cannot make a socket", errno);
  int result = connect(probe, (const struct sockaddr*)address, sizeof(*address));
  int error_number = result == 0 ? 0 : errno;
  close(probe);
  if (error_number != ECONNREFUSED && error_number != ENOENT) {
    return Complain(path, "another process is serving it; give each QEMU a path of its own", 0);
  }
  if (unlink(path) < 0 && errno != ENOENT) {
    return Complain(path, "cannot remove the stale socket", errno);
  }
  return true;
}

static bool BindAndListen(struct HookServer* server, const struct sockaddr_un* address) {
  const char* path = address->sun_path;
  int fd = NewSocket();
  if (fd < 0) return Complain(path, "cannot make a socket", errno);
  atomic_store(&server->listen_fd, fd);
  // Before bind, so that the file never has another mode; umask is not ours to change.
  if (fchmod(fd, 0600) < 0) return Complain(path, "cannot set its mode", errno);
  const struct sockaddr* name = (const struct sockaddr*)address;
  int result = bind(fd, name, sizeof(*address));
  if (result < 0 && errno == EADDRINUSE) {
    if (!RemoveStale(address)) return false;
    result = bind(fd, name, sizeof(*address));
  }
  if (result < 0) return Complain(path, "cannot bind", errno);
  if (listen(fd, kBacklog) < 0) return Complain(path, "cannot listen", errno);
  return true;
}

static void RememberPath(struct HookServer* server, const char* path) {
  char* absolute = server->socket_path;
  size_t used = 0;
  if (path[0] != '/' && getcwd(absolute, PATH_MAX - sizeof(((struct sockaddr_un*)0)->sun_path))) {
    used = strlen(absolute);
    absolute[used++] = '/';
  }
  strcpy(absolute + used, path);
}

bool HookServerOpen(struct HookServer* server, const char* path) {
  atomic_store(&server->listen_fd, -1);
  atomic_store(&server->client_fd, -1);
  atomic_store(&server->maps_fd, -1);
  atomic_store(&server->pagemap_fd, -1);
  atomic_store(&server->clear_refs_fd, -1);
  HookArmedMemoryInit(&server->memory);
  HookTrackedMemoryInit(&server->tracked);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof(address.sun_path)) {
    return Complain(path, "the path is too long (at most 107 bytes)", 0);
  }
  strcpy(address.sun_path, path);
  RememberPath(server, path);
  atomic_store(&server->maps_fd, open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  if (atomic_load(&server->maps_fd) < 0) {
    return Complain(path, "not served, because /proc/self/maps cannot be opened", errno);
  }
  // Without them the hook serves all but TRACK and INSPECT.
  atomic_store(&server->pagemap_fd, open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  atomic_store(&server->clear_refs_fd, open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
  if (!BindAndListen(server, &address)) {
    HookServerForget(server);
    return false;
  }
  server->owner = getpid();
  return true;
}

void HookServerForget(struct HookServer* server) {
  HookCloseSlot(&server->listen_fd);
  HookCloseSlot(&server->maps_fd);
  HookCloseSlot(&server->pagemap_fd);
  HookCloseSlot(&server->clear_refs_fd);
  HookCloseSlot(&server->client_fd);
  HookArmedMemoryForget(&server->memory);
  HookTrackedMemoryForget(&server->tracked);
}

void HookServerRemoveSocket(const struct HookServer* server) {
  if (server->owner == getpid()) (void)unlink(server->socket_path);
}
