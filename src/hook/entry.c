// How the hook gets into a process: as a QEMU plugin, or by LD_PRELOAD.
//
// A library that others load has no main to own its state: the one structure below is the only
// mutable global of the project.
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hook/hook_server.h"

#define EXPORTED __attribute__((visibility("default")))

enum {
  kThreadStackBytes = 256 * 1024,
  // QEMU's -daemonize forks twice; the grandchild is the one that runs the VM.
  kDaemonizeForks = 2,
};

// The part of QEMU's plugin interface (include/qemu/qemu-plugin.h) that the hook needs. It calls
// nothing of QEMU, so that any version will do.
EXPORTED int qemu_plugin_version;
EXPORTED int qemu_plugin_install(uint64_t id, const void* info, int argc, char** argv);

static struct {
  char path[PATH_MAX];
  bool serving;
  bool waits_for_daemonize;
  int forks;
  struct HookServer server;
} hook;

static void* ThreadMain(void* server) {
  pthread_setname_np(pthread_self(), "faultline-hook");
  HookServerRun(server);
  return NULL;
}

// Starts the thread with every signal blocked: signals are the hypervisor's.
static bool StartThread(void) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setstacksize(&attributes, kThreadStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  int result = pthread_create(&thread, &attributes, ThreadMain, &hook.server);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return result == 0;
}

// Opens the socket and serves it. False after a sentence on stderr.
static bool Serve(void) {
  if (!HookServerOpen(&hook.server, hook.path)) return false;
  if (!StartThread()) {
    fprintf(stderr, "faultline-qemu.so: cannot start a thread; the hook is off\n");
    HookServerRemoveSocket(&hook.server);
    HookServerForget(&hook.server);
    return false;
  }
  hook.serving = true;
  return true;
}

static void AfterForkInChild(void) {
  if (hook.serving) {
    // The thread stayed with the parent. The child must not keep socket or userfaultfd open.
    hook.serving = false;
    HookServerForget(&hook.server);
    return;
  }
  if (!hook.waits_for_daemonize || ++hook.forks < kDaemonizeForks) return;
  hook.waits_for_daemonize = false;
  (void)Serve();
}

static bool SetPath(const char* path) {
  if (path[0] == '\0' || strlen(path) >= sizeof(hook.path)) return false;
  strcpy(hook.path, path);
  return true;
}

static bool ExecutableIsQemu(void) {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length < 0) return false;
  path[length] = '\0';
  const char* slash = strrchr(path, '/');
  return strstr(slash ? slash + 1 : path, "qemu") != NULL;
}

static bool IsDaemonizeOption(const char* argument) {
  return strcmp(argument, "-daemonize") == 0 || strcmp(argument, "--daemonize") == 0;
}

static bool WillDaemonize(void) {
  FILE* file = fopen("/proc/self/cmdline", "re");
  if (!file) return false;
  char* argument = NULL;
  size_t capacity = 0;
  bool found = false;
  while (!found && getdelim(&argument, &capacity, '\0', file) > 0) {
    found = IsDaemonizeOption(argument);
  }
  free(argument);
  fclose(file);
  return found;
}

// The plugin API version to claim. QEMU refuses one below its own minimum or above its own version:
// 6.0 to 8.1 speak 0 or 1, later ones 2 and up with 2 as the minimum so far. Version 2 removed
// qemu_plugin_n_vcpus; versions 4 and 5 are known by what they added, in case the minimum rises.
static int PluginVersion(void) {
  if (dlsym(RTLD_DEFAULT, "qemu_plugin_n_vcpus")) return 1;
  if (dlsym(RTLD_DEFAULT, "qemu_plugin_write_register")) return 5;
  if (dlsym(RTLD_DEFAULT, "qemu_plugin_read_memory_vaddr")) return 4;
  return 2;
}

static void StartPreloaded(void) {
  const char* path = getenv("FAULTLINE_HOOK_SOCKET");
  const char* any = getenv("FAULTLINE_HOOK_ANY_PROCESS");
  if (!path || !(ExecutableIsQemu() || (any && strcmp(any, "1") == 0))) return;
  bool usable = SetPath(path);
  // Helpers that this process starts must not take the socket.
  unsetenv("FAULTLINE_HOOK_SOCKET");
  unsetenv("FAULTLINE_HOOK_ANY_PROCESS");
  if (!usable) {
    fprintf(stderr,
            "faultline-qemu.so: FAULTLINE_HOOK_SOCKET is empty or too long; "
            "the hook is off\n");
    return;
  }
  if (WillDaemonize()) {
    hook.waits_for_daemonize = true;
    return;
  }
  (void)Serve();
}

__attribute__((constructor)) static void Load(void) {
  qemu_plugin_version = PluginVersion();
  pthread_atfork(NULL, NULL, AfterForkInChild);
  StartPreloaded();
}

__attribute__((destructor)) static void Unload(void) {
  if (hook.serving) HookServerRemoveSocket(&hook.server);
}

int qemu_plugin_install(uint64_t id, const void* info, int argc, char** argv) {
  static const char kSocket[] = "socket=";
  (void)id;
  (void)info;
  const char* path = NULL;
  for (int i = 0; i < argc; ++i) {
    if (strncmp(argv[i], kSocket, sizeof(kSocket) - 1) == 0) {
      path = argv[i] + sizeof(kSocket) - 1;
    } else {
      fprintf(stderr, "faultline-qemu.so: unknown argument '%s'; the only one is socket=PATH\n",
              argv[i]);
      return -1;
    }
  }
  if (hook.serving || hook.waits_for_daemonize) {
    fprintf(stderr, "faultline-qemu.so: loaded twice; use either -plugin or LD_PRELOAD, once\n");
    return -1;
  }
  if (!path || !SetPath(path)) {
    fprintf(stderr,
            "faultline-qemu.so: say where its socket shall be: "
            "-plugin /path/faultline-qemu.so,socket=PATH\n");
    return -1;
  }
  // QEMU loads plugins after -daemonize has forked.
  return Serve() ? 0 : -1;
}
