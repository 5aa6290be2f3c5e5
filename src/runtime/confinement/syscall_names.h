// The system calls of an engine at work, by name: the lists that syscall_filter.cc makes its
// filters of. Those that depend on their arguments stand there.
#ifndef FAULTLINE_RUNTIME_CONFINEMENT_SYSCALL_NAMES_H_
#define FAULTLINE_RUNTIME_CONFINEMENT_SYSCALL_NAMES_H_

namespace faultline {

inline constexpr const char* kWorkCalls[] = {
    // memory
    "brk", "fallocate", "ftruncate", "madvise", "memfd_create", "mincore", "mmap", "mprotect",
    "mremap", "msync", "munmap", "userfaultfd",
    // files
    "access", "close", "close_range", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64",
    "fchmod", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "getcwd", "getdents64",
    "link", "linkat", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat",
    "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readlink",
    "readlinkat", "readv", "rename", "renameat", "renameat2", "stat", "statfs", "statx", "unlink",
    "unlinkat", "write", "writev",
    // sockets and waiting; newer versions of libuv wait through a ring that they have by then, and
    // end the process where they may not (io_uring_setup is not allowed)
    "accept", "accept4", "bind", "connect", "epoll_create1", "epoll_ctl", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "eventfd2", "io_uring_enter", "getpeername", "getsockname",
    "getsockopt", "listen", "pipe2", "poll", "ppoll", "pselect6", "recvfrom", "recvmmsg", "recvmsg",
    "select", "sendmmsg", "sendmsg", "sendto", "shutdown", "socketpair", "timerfd_create",
    "timerfd_settime",
    // threads, signals, processes that it started or watches
    "capget", "capset", "clone", "exit", "exit_group", "futex", "get_robust_list", "getcpu",
    "getegid", "geteuid", "getgid", "getpid", "getppid", "getresgid", "getresuid", "getrlimit",
    "getrusage", "gettid", "getuid", "kill", "membarrier", "pidfd_open", "pidfd_send_signal",
    "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn",
    "rt_sigtimedwait", "sched_getaffinity", "sched_yield", "set_robust_list", "set_tid_address",
    "sigaltstack", "signalfd4", "tgkill", "wait4", "waitid",
    // time, and what this host is
    "clock_getres", "clock_gettime", "clock_nanosleep", "getrandom", "gettimeofday", "nanosleep",
    "sysinfo", "time", "times", "uname"};

// Nothing in the engine leads to these: they are refused, and not called unknown.
inline constexpr const char* kIntruderCalls[] = {
    // other programs and processes
    "execve", "execveat", "fork", "kcmp", "pidfd_getfd", "process_vm_readv", "process_vm_writev",
    "ptrace", "vfork",
    // other users and rights
    "chmod", "chown", "fchmodat", "fchown", "fchownat", "keyctl", "lchown", "request_key",
    "add_key", "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid",
    "setreuid", "setuid", "setxattr", "fsetxattr", "lsetxattr",
    // the host
    "acct", "bpf", "chroot", "clock_settime", "delete_module", "finit_module", "init_module",
    "ioperm", "iopl", "kexec_file_load", "kexec_load", "mknod", "mknodat", "mount", "mount_setattr",
    "move_mount", "name_to_handle_at", "open_by_handle_at", "open_tree", "perf_event_open",
    "personality", "pivot_root", "quotactl", "reboot", "setdomainname", "sethostname", "setns",
    "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare"};

// In place of those, in a build with a sanitizer, which stops and reads its own threads at the end.
inline constexpr const char* kSanitizerCalls[] = {"prctl", "prlimit64", "ptrace"};

}  // namespace faultline

#endif  // FAULTLINE_RUNTIME_CONFINEMENT_SYSCALL_NAMES_H_
