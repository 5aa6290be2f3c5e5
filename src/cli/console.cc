#include "cli/console.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "runtime/confinement/capabilities.h"

namespace faultline {
namespace {

constexpr size_t kWaitingMax = 4096;
constexpr size_t kWaitingStaleMax = 64;
constexpr const char* kClearLine = "\r\x1b[K";

// Returns 0 or an errno.
int WriteAll(int fd, const std::string& text) {
  size_t written = 0;
  while (written < text.size()) {
    ssize_t count = write(fd, text.data() + written, text.size() - written);
    if (count >= 0) {
      written += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      // Somebody else's O_NONBLOCK on a shared terminal or pipe.
      pollfd entry{.fd = fd, .events = POLLOUT, .revents = 0};
      (void)poll(&entry, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

size_t TerminalColumns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Console::Console() : thread_([this] { ThreadMain(); }) {}

Console::~Console() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool Console::ErrorIsTerminal() { return isatty(STDERR_FILENO) == 1; }

void Console::Queue(Stream stream, const std::string& text, size_t waiting_max) {
  {
    std::lock_guard lock(mutex_);
    if (entries_.size() >= waiting_max) {
      if (waiting_max == kWaitingMax) ++dropped_;
      return;
    }
    entries_.push_back({stream, text + "\n"});
  }
  wake_.notify_all();
}

void Console::Line(Stream stream, const std::string& text) { Queue(stream, text, kWaitingMax); }

void Console::StaleLine(Stream stream, const std::string& text) {
  Queue(stream, text, kWaitingStaleMax);
}

void Console::Progress(const std::string& text) {
  {
    std::lock_guard lock(mutex_);
    progress_ = text;
  }
  wake_.notify_all();
}

void Console::Flush() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return IsIdle(); });
}

bool Console::FlushWithin(int64_t limit_ms) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, std::chrono::milliseconds(limit_ms), [this] { return IsIdle(); });
}

bool Console::stdout_works() const {
  std::lock_guard lock(mutex_);
  return !out_broken_;
}

void Console::ThreadMain() {
  KeepNoCapabilities();
  std::string shown;  // the progress line on the terminal
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !entries_.empty() || progress_.has_value(); });
    if (entries_.empty() && !progress_.has_value()) return;
    std::deque<Entry> entries = std::exchange(entries_, {});
    std::optional<std::string> progress = std::exchange(progress_, std::nullopt);
    uint64_t dropped = std::exchange(dropped_, 0);
    busy_ = true;
    lock.unlock();
    for (const Entry& entry : entries) {
      WriteEntry(entry, !shown.empty());
    }
    if (dropped > 0) {
      WriteEntry({Stream::kError, fmt::format("faultline: {} lines were dropped, because their "
                                              "reader was too slow\n",
                                              dropped)},
                 !shown.empty());
    }
    bool rewrite = !entries.empty() && !shown.empty();
    if (progress.has_value()) shown = *progress;
    if (progress.has_value() || rewrite) WriteProgress(shown);
    lock.lock();
    busy_ = false;
    idle_.notify_all();
  }
}

void Console::WriteEntry(const Entry& entry, bool progress_shown) {
  if (entry.stream == Stream::kError) {
    (void)WriteAll(STDERR_FILENO, progress_shown ? kClearLine + entry.text : entry.text);
    return;
  }
  // stdout and stderr are often the same terminal.
  if (progress_shown) (void)WriteAll(STDERR_FILENO, kClearLine);
  if (!stdout_works()) return;
  int error_number = WriteAll(STDOUT_FILENO, entry.text);
  if (error_number == 0) return;
  (void)WriteAll(STDERR_FILENO, fmt::format("faultline: stdout takes no more output ({}); the "
                                            "command goes on without it\n",
                                            strerror(error_number)));
  std::lock_guard lock(mutex_);
  out_broken_ = true;
}

void Console::WriteProgress(const std::string& text) {
  // One column stays free: a full line would wrap and could not be rewritten.
  (void)WriteAll(STDERR_FILENO, kClearLine + text.substr(0, TerminalColumns() - 1));
}

}  // namespace faultline
