// What a process can still do that has given its rights up. Each case is a child process: there is
// no way back.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "base/sanitized.h"
#include "base/text.h"
#include "runtime/confinement/capabilities.h"
#include "runtime/confinement/syscall_filter.h"

namespace faultline {
namespace {

// Runs `body` in a child; what it returns is empty if all was right.
std::string InChild(const std::function<std::string()>& body) {
  int fds[2];
  EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    const std::string wrong = body();
    (void)!write(fds[1], wrong.data(), wrong.size());
    _exit(0);  // nothing of the parent's is cleared away
  }
  close(fds[1]);
  std::string said;
  char chunk[512];
  ssize_t got;
  while ((got = read(fds[0], chunk, sizeof(chunk))) > 0) said.append(chunk, got);
  close(fds[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    said += "; it was killed: wait status " + std::to_string(status);
  }
  return said;
}

// A line of /proc's status file: "CapEff", "Seccomp", ...
std::string StatusLine(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key + ":\t", 0) == 0) return line.substr(key.size() + 2);
  }
  return "?";
}

uint64_t Capabilities(const std::string& key) {
  return std::strtoull(StatusLine("/proc/thread-self/status", key).c_str(), nullptr, 16);
}

bool IsRoot() { return geteuid() == 0 && (Capabilities("CapEff") >> CAP_SETPCAP & 1) != 0; }

TEST(Capabilities, OnlyWhatIsKeptIsLeft) {
  if (!IsRoot()) GTEST_SKIP() << "only root has capabilities to give up";
  EXPECT_EQ(InChild([]() -> std::string {
              const uint64_t kept = CapabilityBits({CAP_KILL, CAP_CHECKPOINT_RESTORE});
              const uint64_t had = Capabilities("CapPrm");
              if (absl::Status given = KeepCapabilities(kept); !given.ok()) {
                return MessageOf(given);
              }
              for (const char* key : {"CapPrm", "CapEff", "CapBnd"}) {
                if (Capabilities(key) != (kept & had)) return std::string(key) + " is another";
              }
              if (Capabilities("CapInh") != 0 || Capabilities("CapAmb") != 0) return "inherited";
              uint64_t in_thread = 1;
              std::thread([&] { in_thread = Capabilities("CapEff"); }).join();
              return in_thread == (kept & had) ? "" : "a thread has others";
            }),
            "");
}

TEST(Capabilities, ThereIsNoWayBack) {
  if (!IsRoot()) GTEST_SKIP() << "only root has capabilities to give up";
  EXPECT_EQ(InChild([]() -> std::string {
              if (!KeepCapabilities(0).ok()) return "cannot be given up";
              if (!KeepCapabilities(~uint64_t{0}).ok()) return "keeping all is no error";
              if (Capabilities("CapEff") != 0) return "they came back";
              if (chown("/proc", 1, 1) == 0 || errno != EPERM) return "chown works";
              return socket(AF_INET, SOCK_RAW, IPPROTO_TCP) < 0 ? "" : "a raw socket opens";
            }),
            "");
}

TEST(Capabilities, AnUnprivilegedProcessHasNothingToGiveUp) {
  EXPECT_EQ(InChild([]() -> std::string {
              if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) return "setresuid";
              absl::Status given = KeepCapabilities(CapabilityBits({CAP_KILL}));
              if (!given.ok()) return MessageOf(given);
              return Capabilities("CapEff") == 0 ? "" : "it has some";
            }),
            "");
}

TEST(Capabilities, OthersAreKeptOut) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer has to look in";
  EXPECT_EQ(InChild([]() -> std::string {
              if (!KeepOthersOut().ok() || !ForbidNewPrivileges().ok()) return "refused";
              if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return "new privileges";
              if (prctl(PR_GET_DUMPABLE) != 0) return "a core is possible";
              // One's own /proc is needed: journals and RAM files are opened again through it.
              return access("/proc/self/fd/0", F_OK) == 0 ? "" : "its own /proc is closed to it";
            }),
            "");
}

// What is refused to who got into the process, by the error that it meets.
struct Attempt {
  const char* what;
  int error_number;
  std::function<long()> call;
};

const Attempt kAttempts[] = {
    {"execve", EPERM, [] { return long{execl("/bin/true", "true", nullptr)}; }},
    {"fork", EPERM, [] { return syscall(SYS_fork); }},
    {"a new process by clone", EPERM, [] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
    {"clone3", ENOSYS, [] { return syscall(SYS_clone3, nullptr, 0); }},
    {"ptrace", EPERM, [] { return long{ptrace(PTRACE_TRACEME, 0, 0, 0)}; }},
    {"process_vm_writev", EPERM,
     [] { return long{process_vm_writev(getppid(), nullptr, 0, nullptr, 0, 0)}; }},
    {"pidfd_getfd", EPERM, [] { return syscall(SYS_pidfd_getfd, -1, 0, 0); }},
    {"chown", EPERM, [] { return long{chown("/", 0, 0)}; }},
    {"chmod", EPERM, [] { return long{chmod("/nothing", 0)}; }},
    {"setuid", EPERM, [] { return long{setuid(0)}; }},
    {"mount", EPERM, [] { return syscall(SYS_mount, "", "", "", 0, ""); }},
    {"unshare", EPERM, [] { return syscall(SYS_unshare, 0); }},
    {"bpf", EPERM, [] { return syscall(SYS_bpf, 0, nullptr, 0); }},
    {"init_module", EPERM, [] { return syscall(SYS_init_module, nullptr, 0, ""); }},
    {"kexec_load", EPERM, [] { return syscall(SYS_kexec_load, 0, 0, nullptr, 0); }},
    {"a userfaultfd for the kernel's faults", EPERM, [] { return syscall(SYS_userfaultfd, 0); }},
    {"process_madvise", ENOSYS, [] { return syscall(SYS_process_madvise, -1, nullptr, 0, 25, 0); }},
    {"io_uring", ENOSYS, [] { return syscall(SYS_io_uring_setup, 1, nullptr); }},
    {"a raw socket", ENOSYS, [] { return long{socket(AF_INET, SOCK_RAW, IPPROTO_TCP)}; }},
    {"a netlink socket", ENOSYS, [] { return long{socket(AF_NETLINK, SOCK_DGRAM, 0)}; }},
    {"typing into a terminal", ENOSYS, [] { return long{ioctl(0, TIOCSTI, "x")}; }},
    {"code that is data", EPERM,
     [] {
       void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       return page == MAP_FAILED ? -1L : 0L;
     }},
    {"data that becomes code", EPERM,
     [] {
       void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       return long{mprotect(page, 4096, PROT_READ | PROT_EXEC)};
     }},
    {"another architecture's calls", EPERM,
     [] {
       // x32: the same numbers with a bit set.
       return syscall(0x40000000 + SYS_getpid);
     }},
};

std::string TryAll() {
  std::string wrong;
  for (const Attempt& attempt : kAttempts) {
    errno = 0;
    if (attempt.call() >= 0) {
      wrong += std::string(attempt.what) + " works; ";
    } else if (errno != attempt.error_number) {
      wrong += std::string(attempt.what) + ": " + strerror(errno) + "; ";
    }
  }
  return wrong;
}

TEST(SyscallFilter, AnIntruderGetsErrorsAndTheProcessLives) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer needs some of these";
  EXPECT_EQ(InChild([]() -> std::string {
              absl::Status installed = InstallSyscallFilter({});
              return installed.ok() ? TryAll() : MessageOf(installed);
            }),
            "");
}

// The kernel's own answer, not the filter's.
TEST(SyscallFilter, DirtyTrackingGoesOn) {
  EXPECT_EQ(InChild([]() -> std::string {
              absl::Status installed = InstallSyscallFilter({});
              if (!installed.ok()) return MessageOf(installed);
              constexpr unsigned long kPagemapScan = 0xc0606610;
              if (ioctl(-1, kPagemapScan, nullptr) == 0 || errno != EBADF) return "PAGEMAP_SCAN";
              if (ioctl(-1, UFFDIO_WRITEPROTECT, nullptr) == 0 || errno != EBADF) return "protect";
              return pwrite(-1, "4", 1, 0) < 0 && errno == EBADF ? "" : "clear_refs";
            }),
            "");
}

// A thread that is there already is filtered, and those that come; the same as another user.
TEST(SyscallFilter, HoldsForAllThreadsAndWithoutPrivileges) {
  EXPECT_EQ(InChild([]() -> std::string {
              std::atomic<int> step = 0;
              std::string in_old;
              std::thread old([&] {
                while (step == 0) std::this_thread::yield();
                in_old = StatusLine("/proc/thread-self/status", "Seccomp") +
                         StatusLine("/proc/thread-self/status", "NoNewPrivs");
              });
              if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) return "setresuid";
              absl::Status installed = InstallSyscallFilter({});
              step = 1;
              old.join();
              if (!installed.ok()) return MessageOf(installed);
              std::string in_new;
              std::thread([&] {
                in_new = StatusLine("/proc/thread-self/status", "Seccomp") +
                         StatusLine("/proc/thread-self/status", "NoNewPrivs");
              }).join();
              return in_old == "21" && in_new == "21" ? "" : in_old + " and " + in_new;
            }),
            "");
}

TEST(SyscallFilter, HugePagesMayBeAskedForWhereTheyAreWanted) {
  EXPECT_EQ(InChild([]() -> std::string {
              if (!InstallSyscallFilter({.advise_other_processes = true}).ok()) return "refused";
              errno = 0;
              (void)syscall(SYS_process_madvise, -1, nullptr, 0, 25, 0);
              return errno == EBADF || errno == EINVAL ? "" : strerror(errno);
            }),
            "");
}

TEST(SyscallFilter, WorkGoesOn) {
  EXPECT_EQ(InChild([]() -> std::string {
              if (!InstallSyscallFilter({}).ok()) return "refused";
              char name[] = "/tmp/faultline-confined-XXXXXX";
              int file = mkstemp(name);
              if (file < 0 || write(file, "x", 1) != 1 || fsync(file) < 0) return "files";
              if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0 &&
                  errno != EOPNOTSUPP) {
                return "punching";
              }
              unlink(name);
              int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
              int one = 1;
              if (setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
                  listen(listener, 1) < 0) {
                return "sockets";
              }
              if (if_nametoindex("lo") == 0 && errno != ENODEV) return "interfaces by name";
              // A ring that was made before is worked with; there is none here.
              if (syscall(SYS_io_uring_enter, -1, 0, 0, 0, nullptr, 0) != -1 || errno != EBADF) {
                return "a ring made before";
              }
              int pair[2];
              if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) return "socket pairs";
              if (memfd_create("x", 0) < 0 || eventfd(0, 0) < 0) return "memfd, eventfd";
              if (syscall(SYS_userfaultfd, O_CLOEXEC | 1) < 0) return "userfaultfd for itself";
              if (!ReadTextFile("/proc/self/maps").ok()) return "/proc";
              int waited = 0;
              std::thread([&] { waited = usleep(1000); }).join();
              return waited == 0 && kill(getpid(), 0) == 0 ? "" : "threads, signals";
            }),
            "");
}

TEST(SyscallFilter, ThisKernelTakesOne) {
  absl::Status usable = CheckSyscallFilter();
  EXPECT_TRUE(usable.ok()) << usable;
}

}  // namespace
}  // namespace faultline
