#include "runtime/confinement/syscall_filter.h"

#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>
#include <memory>

#include "base/sanitized.h"
#include "runtime/confinement/syscall_names.h"

namespace faultline {
namespace {

constexpr uint32_t kAllow = SCMP_ACT_ALLOW;
constexpr uint32_t kRefuse = SCMP_ACT_ERRNO(EPERM);
constexpr uint32_t kUnknown = SCMP_ACT_ERRNO(ENOSYS);

constexpr uint64_t kUffdUserModeOnly = 1;  // UFFD_USER_MODE_ONLY: not in older headers
constexpr uint64_t kSocketTypes = 0xf;     // without SOCK_NONBLOCK and SOCK_CLOEXEC
constexpr uint64_t kIoctlTypes = 0xff00;
// PAGEMAP_SCAN: not in older headers. Its struct has 96 bytes.
constexpr uint64_t kPagemapScan = _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, 96);
constexpr int kSolTls = 282;
constexpr uint64_t kWriteExecute = PROT_WRITE | PROT_EXEC;

scmp_arg_cmp Is(unsigned argument, uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}

scmp_arg_cmp HasBits(unsigned argument, uint64_t mask, uint64_t value) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

// Collects a filter's rules; the first error stays.
class Rules {
 public:
  Rules(uint32_t otherwise, bool logs) : context_(seccomp_init(otherwise), seccomp_release) {
    if (context_ == nullptr) error_ = ENOMEM;
    Set(SCMP_FLTATR_ACT_BADARCH, kRefuse);
    Set(SCMP_FLTATR_CTL_TSYNC, 1);
    Set(SCMP_FLTATR_CTL_LOG, logs ? 1 : 0);
    Set(SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a tree: ioctl is in the way of every page
    Set(SCMP_FLTATR_API_SYSRAWRC, 1);
  }

  void Add(uint32_t action, const char* name, std::initializer_list<scmp_arg_cmp> arguments = {}) {
    const int number = seccomp_syscall_resolve_name(name);
    if (error_ != 0 || number == __NR_SCMP_ERROR) return;  // newer than this libseccomp
    error_ = -seccomp_rule_add_array(context_.get(), action, number,
                                     static_cast<unsigned>(arguments.size()), arguments.begin());
  }

  absl::Status Load() {
    if (error_ == 0) error_ = -seccomp_load(context_.get());
    if (error_ == 0) return absl::OkStatus();
    return ErrnoStatus(error_, "filter this process's system calls (seccomp)");
  }

 private:
  void Set(scmp_filter_attr attribute, uint32_t value) {
    if (error_ == 0) error_ = -seccomp_attr_set(context_.get(), attribute, value);
  }

  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
  int error_ = 0;
};

// TCP, what a name's lookup needs, and unix sockets: neither raw packets nor the host's network.
void AllowSockets(Rules* rules) {
  for (uint64_t domain : {AF_UNIX, AF_INET, AF_INET6}) {
    for (uint64_t type : {SOCK_STREAM, SOCK_DGRAM}) {
      rules->Add(kAllow, "socket", {Is(0, domain), HasBits(1, kSocketTypes, type)});
    }
  }
  rules->Add(kAllow, "socket", {Is(0, AF_UNIX), HasBits(1, kSocketTypes, SOCK_SEQPACKET)});  // hook
  for (int level : {SOL_SOCKET, int{IPPROTO_TCP}, kSolTls}) {
    rules->Add(kAllow, "setsockopt", {Is(1, static_cast<uint64_t>(level))});
  }
  rules->Add(kAllow, "setsockopt", {Is(1, IPPROTO_IP), Is(2, IP_RECVERR)});
  rules->Add(kAllow, "setsockopt", {Is(1, IPPROTO_IPV6), Is(2, IPV6_RECVERR)});
}

// A userfaultfd's, which pages of the VM were written, and what is asked of terminals, sockets and
// interfaces (the one in an IPv6 address): nothing can be typed into a terminal.
void AllowIoctls(Rules* rules) {
  rules->Add(kAllow, "ioctl", {HasBits(1, kIoctlTypes, UFFDIO << 8)});
  rules->Add(kAllow, "ioctl", {Is(1, kPagemapScan)});
  for (uint64_t request : {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, SIOCGIFINDEX}) {
    rules->Add(kAllow, "ioctl", {Is(1, request)});
  }
}

void AllowOwnLimits(Rules* rules) {
  for (int option : {PR_SET_NAME, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS,
                     PR_GET_NO_NEW_PRIVS, PR_GET_DUMPABLE}) {
    rules->Add(kAllow, "prctl", {Is(0, static_cast<uint64_t>(option))});
  }
  rules->Add(kAllow, "prlimit64", {Is(0, 0)});
}

// Threads, no processes; no file for others, or for all with its owner's rights; no code that was
// data before. Libraries may still be loaded (the
// resolver's), and a userfaultfd be made of one's own faults (which pages of a hugetlbfs file exist
// is asked so).
void RefuseByArguments(Rules* rules) {
  rules->Add(kRefuse, "clone", {HasBits(0, CLONE_THREAD, 0)});
  rules->Add(kRefuse, "fchmod", {{.arg = 1, .op = SCMP_CMP_NE, .datum_a = 0600, .datum_b = 0}});
  rules->Add(kRefuse, "mmap", {HasBits(2, kWriteExecute, kWriteExecute)});
  rules->Add(kRefuse, "mprotect", {HasBits(2, PROT_EXEC, PROT_EXEC)});
  rules->Add(kRefuse, "userfaultfd", {HasBits(0, kUffdUserModeOnly, 0)});
}

}  // namespace

// Two filters, because a filter logs all that it does not allow or nothing, and a library's attempt
// with something newer is no news.
absl::Status InstallSyscallFilter(const SyscallFilterOptions& options) {
  Rules intruder(kAllow, /*logs=*/true);
  Rules work(kUnknown, /*logs=*/false);
  if (!kSanitized) {
    for (const char* name : kIntruderCalls) {
      intruder.Add(kRefuse, name);
      work.Add(kAllow, name);  // the other filter's answer holds
    }
    RefuseByArguments(&intruder);
    AllowOwnLimits(&work);
  } else {
    for (const char* name : kSanitizerCalls) work.Add(kAllow, name);
  }
  for (const char* name : kWorkCalls) work.Add(kAllow, name);
  AllowSockets(&work);
  AllowIoctls(&work);
  if (options.advise_other_processes) work.Add(kAllow, "process_madvise");
  // The second one forbids to install more.
  RETURN_IF_ERROR(intruder.Load());
  return work.Load();
}

absl::Status CheckSyscallFilter() {
  uint32_t action = SCMP_ACT_ERRNO(0);
  if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "ask for seccomp filters");
}

}  // namespace faultline
