#include "vmm/qemu/guardian.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "vmm/qemu/cancel_event.h"
#include "vmm/qemu/guardian_wire.h"

namespace faultline {
namespace {

constexpr int64_t kReadyTimeoutMs = 5000;
constexpr int64_t kEndTimeoutMs = 2000;
// Descriptors are moved up here first, so that putting one in its place cannot overwrite another.
constexpr int kParkingBase = 200;

absl::Status SendToGuardian(int lifeline, const std::string& message) {
  if (send(lifeline, message.data(), message.size(), MSG_NOSIGNAL) >= 0) return absl::OkStatus();
  return ErrnoStatus(errno, "talk to this command's guardian process");
}

// What posix_spawn needs, freed again.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  // The child has exactly `fds`, from kGuardianFirstFd on, and the parent's stderr.
  absl::Status Pass(const std::vector<int>& fds) {
    for (int target : {STDIN_FILENO, STDOUT_FILENO}) {
      posix_spawn_file_actions_addopen(&actions_, target, "/dev/null", O_RDWR, 0);
    }
    int target = kGuardianFirstFd;
    for (int fd : fds) {
      FileDescriptor parked(fcntl(fd, F_DUPFD_CLOEXEC, kParkingBase));
      if (!parked.valid()) return ErrnoStatus(errno, "pass a descriptor to the guardian");
      posix_spawn_file_actions_adddup2(&actions_, parked.get(), target++);
      parked_.push_back(std::move(parked));
    }
    posix_spawn_file_actions_addclosefrom_np(&actions_, target);
    return absl::OkStatus();
  }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;

 private:
  std::vector<FileDescriptor> parked_;
};

// All copies of `lifeline` but the child's are closed again on return: they would hide its death.
absl::StatusOr<pid_t> StartProcess(const Guardian::Setup& setup, int lifeline) {
  bool source = setup.side == Guardian::Side::kSource;
  std::vector<int> fds = {lifeline, setup.monitor};
  if (!source) fds.push_back(setup.process);
  fds.insert(fds.end(), setup.held.begin(), setup.held.end());
  SpawnSettings settings;
  RETURN_IF_ERROR(settings.Pass(fds));

  std::array<std::string, 5> arguments = {"faultline", "guardian",
                                          source ? kGuardianSourceWord : kGuardianDestinationWord,
                                          setup.journal_path, setup.monitor_path};
  std::array<char*, 6> pointers{};
  for (size_t i = 0; i < arguments.size(); ++i) pointers[i] = arguments[i].data();
  pid_t pid = 0;
  int error = posix_spawn(&pid, "/proc/self/exe", &settings.actions_, &settings.attributes_,
                          pointers.data(), environ);
  if (error != 0) return ErrnoStatus(error, "start this command's guardian process");
  return pid;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Guardian>> Guardian::Spawn(const Setup& setup) {
  std::array<int, 2> pair;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) < 0) {
    return ErrnoStatus(errno, "make the guardian's lifeline");
  }
  FileDescriptor ours(pair[0]);
  FileDescriptor theirs(pair[1]);

  ASSIGN_OR_RETURN(pid_t pid, StartProcess(setup, theirs.get()));
  std::unique_ptr<Guardian> guardian(new Guardian(std::move(ours), pid));
  theirs.Reset();
  if (!setup.plan.empty()) RETURN_IF_ERROR(guardian->UpdatePlan(setup.plan));
  return guardian;
}

absl::Status Guardian::AwaitReady() {
  if (ready_) return absl::OkStatus();
  RETURN_IF_ERROR(WaitForDescriptor(lifeline_.get(), POLLIN, nullptr,
                                    Deadline::After(kReadyTimeoutMs), "the guardian process"));
  char ready = 0;
  if (recv(lifeline_.get(), &ready, 1, 0) != 1 || ready != kGuardianReady) {
    return absl::InternalError(
        "this command's guardian process ended at once; its reason stands on standard error");
  }
  ready_ = true;
  return absl::OkStatus();
}

Guardian::~Guardian() {
  lifeline_.Reset();
  waitpid(pid_, nullptr, WNOHANG);
}

bool Guardian::alive() const {
  if (!lifeline_.valid()) return false;
  pollfd end{lifeline_.get(), POLLIN, 0};
  return poll(&end, 1, 0) == 0;
}

absl::Status Guardian::UpdatePlan(const std::string& plan) {
  return SendToGuardian(lifeline_.get(), kGuardianPlan + plan);
}

void Guardian::StandDown() {
  if (!lifeline_.valid()) return;
  AwaitReady().IgnoreError();  // its next word is its end
  absl::Status told = SendToGuardian(lifeline_.get(), std::string(1, kGuardianStandDown));
  if (told.ok()) {
    told = WaitForDescriptor(lifeline_.get(), POLLIN, nullptr, Deadline::After(kEndTimeoutMs),
                             "the guardian's end");
  }
  // One that does not listen must not act later, when this process ends in peace.
  if (!told.ok()) kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  lifeline_.Reset();
}

}  // namespace faultline
