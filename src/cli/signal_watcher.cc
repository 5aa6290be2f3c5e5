#include "cli/signal_watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "runtime/confinement/capabilities.h"

namespace faultline {
namespace {

std::string SignalName(uint32_t number) {
  switch (number) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    default:
      return "SIGHUP";
  }
}

bool IsIgnored(int number) {
  struct sigaction action {};
  return sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SignalWatcher>> SignalWatcher::Start(
    std::function<void(const std::string&)> callback) {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGINT);
  sigaddset(&wanted, SIGTERM);
  if (!IsIgnored(SIGHUP)) sigaddset(&wanted, SIGHUP);
  int error_number = pthread_sigmask(SIG_BLOCK, &wanted, nullptr);
  if (error_number != 0) return ErrnoStatus(error_number, "block the signals that end a command");
  FileDescriptor signals(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.valid()) return ErrnoStatus(errno, "make a signal descriptor");
  FileDescriptor stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return ErrnoStatus(errno, "make an event descriptor");
  return std::unique_ptr<SignalWatcher>(
      new SignalWatcher(std::move(signals), std::move(stop), std::move(callback)));
}

SignalWatcher::SignalWatcher(FileDescriptor signals, FileDescriptor stop,
                             std::function<void(const std::string&)> callback)
    : signals_(std::move(signals)),
      stop_(std::move(stop)),
      callback_(std::move(callback)),
      thread_([this] { ThreadMain(); }) {}

SignalWatcher::~SignalWatcher() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void SignalWatcher::ThreadMain() {
  KeepNoCapabilities();
  std::array<pollfd, 2> entries = {pollfd{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = stop_.get(), .events = POLLIN, .revents = 0}};
  while (true) {
    if (poll(entries.data(), entries.size(), -1) < 0) continue;
    if (entries[1].revents != 0) return;
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      callback_(SignalName(info.ssi_signo));
    }
  }
}

}  // namespace faultline
