// A process with memory for the hook to find: the hook's tests preload it and tell it what to do by
// lines on its standard input. Each command answers with one line.
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kMappingsMax = 16 };

static volatile uint8_t* mappings[kMappingsMax];
static int mapping_count;

// "-daemonize" as QEMU does it: two forks with setsid between them, the first process waiting.
static void Daemonize(void) {
  int ready[2];
  if (pipe(ready) < 0) exit(1);
  pid_t child = fork();
  if (child > 0) {
    char byte;
    close(ready[1]);
    exit(read(ready[0], &byte, 1) == 1 ? 0 : 1);
  }
  setsid();
  if (fork() > 0) _exit(0);
  close(ready[0]);
  if (write(ready[1], "x", 1) != 1) _exit(1);
  close(ready[1]);
}

static void Map(const char* path, uint64_t offset, uint64_t size, const char* kind) {
  int fd = strcmp(path, "memfd") == 0     ? memfd_create("ram", 0)
           : strcmp(path, "hugetlb") == 0 ? memfd_create("ram", MFD_HUGETLB)
                                          : open(path, O_RDWR);
  if (fd < 0 || (path[0] != '/' && ftruncate(fd, (off_t)(offset + size)) < 0)) {
    printf("cannot open\n");
    return;
  }
  int flags = strcmp(kind, "private") == 0 ? MAP_PRIVATE : MAP_SHARED;
  void* address = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
  if (address == MAP_FAILED || mapping_count == kMappingsMax) {
    printf("cannot map\n");
    return;
  }
  mappings[mapping_count] = address;
  printf("mapped %d %" PRIu64 " %d\n", mapping_count++, (uint64_t)(uintptr_t)address, fd);
}

static void Fork(void) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  printf("child %d\n", child);
}

// A byte that the kernel reads on this process's behalf, as KVM does when it emulates an
// instruction: a thread that misses its page there is in the kernel.
static void Tell(const volatile uint8_t* byte) {
  int ends[2];
  uint8_t copy = 0;
  if (pipe(ends) < 0 || write(ends[1], (const void*)byte, 1) != 1 || read(ends[0], &copy, 1) != 1) {
    printf("cannot tell\n");
    return;
  }
  close(ends[0]);
  close(ends[1]);
  printf("told %d\n", copy);
}

static void Handle(const char* line) {
  char path[512];
  char kind[32];
  uint64_t a;
  uint64_t b;
  uint64_t c;
  if (sscanf(line, "map %511s %" SCNu64 " %" SCNu64 " %31s", path, &a, &b, kind) == 4) {
    Map(path, a, b, kind);
  } else if (sscanf(line, "read %" SCNu64 " %" SCNu64, &a, &b) == 2) {
    printf("byte %d\n", mappings[a][b]);
  } else if (sscanf(line, "tell %" SCNu64 " %" SCNu64, &a, &b) == 2) {
    Tell(&mappings[a][b]);
  } else if (sscanf(line, "write %" SCNu64 " %" SCNu64 " %" SCNu64, &a, &b, &c) == 3) {
    mappings[a][b] = (uint8_t)c;
    printf("written\n");
  } else if (sscanf(line, "split %" SCNu64 " %" SCNu64 " %" SCNu64, &a, &b, &c) == 3) {
    int result = madvise((void*)(uintptr_t)&mappings[a][b], c, MADV_DONTDUMP);
    printf(result == 0 ? "split\n" : "cannot split\n");
  } else if (sscanf(line, "setuid %" SCNu64, &a) == 1) {
    printf(setuid((uid_t)a) == 0 ? "user\n" : "cannot set user\n");
  } else if (strncmp(line, "fork", 4) == 0) {
    Fork();
  } else if (strncmp(line, "env", 3) == 0) {
    const char* value = getenv("FAULTLINE_HOOK_SOCKET");
    printf("env %s\n", value ? value : "unset");
  } else if (strncmp(line, "pid", 3) == 0) {
    printf("pid %d\n", getpid());
  } else {
    printf("unknown command\n");
  }
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc > 1 && strcmp(argv[1], "-daemonize") == 0) Daemonize();
  char line[1024];
  while (fgets(line, sizeof(line), stdin)) Handle(line);
  return 0;
}
