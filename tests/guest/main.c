#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

struct Options options = {.mib = 64,
                          .threads = 1,
                          .writes_permille = 200,
                          .seed = 1,
                          .report_ms = 100,
                          .hot_mib = 32,
                          .pattern = "uniform"};
struct Counters counters;

static pthread_mutex_t say_lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t NowUs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t NextRandom(uint64_t* state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  *state = x;
  return x * 0x2545F4914F6CDD1Dull;
}

uint64_t Mix(uint64_t x) {
  x ^= x >> 31;
  x *= 0x7fb5d329728ea185ull;
  x ^= x >> 27;
  x *= 0x81dadef4bc2dd44dull;
  return x ^ (x >> 33);
}

void Say(const char* format, ...) {
  char line[2048] = "FL ";
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + 3, sizeof(line) - 4, format, arguments);
  va_end(arguments);
  strcat(line, "\n");
  pthread_mutex_lock(&say_lock);
  const char* rest = line;
  size_t left = strlen(line);
  while (left > 0) {
    ssize_t written = write(STDOUT_FILENO, rest, left);
    if (written <= 0) break;
    rest += written;
    left -= (size_t)written;
  }
  pthread_mutex_unlock(&say_lock);
}

void Fatal(const char* what) {
  Say("error what=%s errno=%d", what, errno);
  tcdrain(STDOUT_FILENO);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

static void TakeOption(const char* word) {
  static const struct {
    const char* name;
    uint64_t* value;
  } numbers[] = {
      {"fl.mib=", &options.mib},
      {"fl.idle=", &options.idle_mib},
      {"fl.threads=", &options.threads},
      {"fl.seed=", &options.seed},
      {"fl.writes_permille=", &options.writes_permille},
      {"fl.report_ms=", &options.report_ms},
      {"fl.tick_ms=", &options.tick_ms},
      {"fl.hot=", &options.hot_mib},
      {"fl.discard=", &options.discard_mib},
  };
  for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); ++i) {
    size_t length = strlen(numbers[i].name);
    if (strncmp(word, numbers[i].name, length) == 0) {
      *numbers[i].value = strtoull(word + length, NULL, 10);
      return;
    }
  }
  if (strncmp(word, "fl.pattern=", 11) == 0) {
    snprintf(options.pattern, sizeof(options.pattern), "%s", word + 11);
  } else if (strncmp(word, "fl.net=", 7) == 0) {
    snprintf(options.address, sizeof(options.address), "%s", word + 7);
  } else if (strcmp(word, "fl.fill=compressible") == 0) {
    options.compressible = true;
  } else if (strcmp(word, "fl.churn") == 0) {
    options.churn = true;
  } else if (strcmp(word, "fl.disk") == 0) {
    options.disk = true;
  } else if (strcmp(word, "fl.balloon") == 0) {
    options.balloon = true;
  }
}

static void ReadOptions(void) {
  char text[4096] = "";
  int file = open("/proc/cmdline", O_RDONLY);
  ssize_t length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
  if (length < 0) Fatal("/proc/cmdline");
  close(file);
  text[length] = 0;
  char* rest = NULL;
  for (char* word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
    TakeOption(word);
  }
  if (strcmp(options.pattern, "writeheavy") == 0) options.writes_permille = 800;
  if (options.threads < 1 || options.threads > kThreadsMax) Fatal("fl.threads");
}

static void OpenConsole(void) {
  int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
  if (console < 0) Fatal("/dev/ttyS0");
  struct termios settings;
  tcgetattr(console, &settings);
  cfmakeraw(&settings);
  cfsetspeed(&settings, B115200);
  tcsetattr(console, TCSANOW, &settings);
  dup2(console, STDIN_FILENO);
  dup2(console, STDOUT_FILENO);
  dup2(console, STDERR_FILENO);
}

// The operations of this window by length, as " stalls=bucket:count,..."; begins the next window.
static void TakeStalls(char* text, size_t room) {
  size_t length = (size_t)snprintf(text, room, " stalls=");
  for (int bucket = 0; bucket < kStallBuckets; ++bucket) {
    uint64_t count = atomic_exchange_explicit(&counters.stalls[bucket], 0, memory_order_relaxed);
    if (count == 0 || length + 32 > room) continue;
    length += (size_t)snprintf(text + length, room - length, "%d:%lu,", bucket, count);
  }
}

// Prints a line per window. Under one vCPU a page fault stops this thread too; the window is then
// longer, which is why each line says how long it was.
static void* Reporter(void* unused) {
  (void)unused;
  uint64_t last_us = NowUs();
  uint64_t last_ops = 0;
  char stalls[1536] = "";
  for (;;) {
    usleep((useconds_t)(options.report_ms * 1000));
    uint64_t now_us = NowUs();
    uint64_t ops = atomic_load_explicit(&counters.ops, memory_order_relaxed);
    if (options.tick_ms > 0) TakeStalls(stalls, sizeof(stalls));
    Say("report t_us=%lu window_us=%lu window_ops=%lu ops=%lu reads=%lu wrong=%lu worst_us=%lu "
        "disk_ops=%lu disk_wrong=%lu net_bytes=%lu churn=%lu%s",
        now_us, now_us - last_us, ops - last_ops, ops, (uint64_t)counters.reads,
        (uint64_t)counters.wrong, (uint64_t)atomic_exchange(&counters.worst_us, 0),
        (uint64_t)counters.disk_ops, (uint64_t)counters.disk_wrong, (uint64_t)counters.net_bytes,
        (uint64_t)counters.churn_rounds, stalls);
    last_us = now_us;
    last_ops = ops;
  }
  return NULL;
}

// Short lines, often: the host pairs their time stamps with its own clock.
static void* Ticker(void* unused) {
  (void)unused;
  for (;;) {
    usleep((useconds_t)(options.tick_ms * 1000));
    Say("tick t_us=%lu ops=%lu", NowUs(), (uint64_t)counters.ops);
  }
  return NULL;
}

static bool UsesSqlite(void) { return strcmp(options.pattern, "sqlite") == 0; }

static void Obey(const char* command) {
  if (strcmp(command, "pause") == 0) {
    WorkersPause();
    Say("paused");
  } else if (strcmp(command, "resume") == 0) {
    WorkersResume();
    Say("resumed");
  } else if (strcmp(command, "verify") == 0) {
    WorkersPause();
    if (UsesSqlite()) {
      SqliteVerify();
    } else {
      MemoryVerify();
    }
    WorkersResume();
  } else if (strcmp(command, "discard") == 0) {
    MemoryDiscard();
  } else if (strcmp(command, "refill") == 0) {
    MemoryRefill();
  } else if (strcmp(command, "quit") == 0) {
    reboot(RB_POWER_OFF);
  } else {
    Say("error what=command_%s", command);
  }
}

int main(void) {
  mkdir("/dev", 0755);
  mkdir("/proc", 0755);
  mkdir("/sys", 0755);
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  OpenConsole();
  ReadOptions();
  DevicesLoad();
  if (options.address[0]) NetworkStart();
  if (options.disk) DiskStart();
  uint64_t began_us = NowUs();
  if (UsesSqlite()) {
    SqliteStart();
  } else {
    MemoryStart();
  }
  Say("ready mib=%lu idle=%lu pattern=%s threads=%lu boot_us=%lu fill_us=%lu", options.mib,
      options.idle_mib, options.pattern, options.threads, began_us, NowUs() - began_us);
  pthread_t reporter;
  if (pthread_create(&reporter, NULL, Reporter, NULL) != 0) Fatal("reporter");
  pthread_t ticker;
  if (options.tick_ms > 0 && pthread_create(&ticker, NULL, Ticker, NULL) != 0) Fatal("ticker");

  char line[64];
  size_t length = 0;
  for (;;) {
    char byte;
    if (read(STDIN_FILENO, &byte, 1) != 1) continue;
    if (byte == '\n' || byte == '\r') {
      line[length] = 0;
      if (length > 0) Obey(line);
      length = 0;
    } else if (length < sizeof(line) - 1) {
      line[length++] = byte;
    }
  }
}
