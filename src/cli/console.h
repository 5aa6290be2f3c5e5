// Writes to stdout and stderr without ever making the caller wait: a terminal that is held with
// Ctrl-S, or a reader that is slow, must not stop a migration.
//
// Thread safety: any thread may call everything; one thread of its own writes.
#ifndef FAULTLINE_CLI_CONSOLE_H_
#define FAULTLINE_CLI_CONSOLE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace faultline {

class Console {
 public:
  enum class Stream : uint8_t { kOut = 1, kError = 2 };

  Console();
  // Writes what is queued first.
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // Queues `text` and a line end. If thousands of lines wait already it is dropped and counted.
  void Line(Stream stream, const std::string& text);
  // Like Line, but dropped as soon as a few dozen lines wait: for figures that are soon stale.
  void StaleLine(Stream stream, const std::string& text);
  // Replaces the line at the bottom of the terminal on stderr; empty removes it.
  void Progress(const std::string& text);
  // Returns when all that was queued has been written or given up.
  void Flush();
  // The same, but gives up after `limit_ms`; false: something is queued still.
  bool FlushWithin(int64_t limit_ms);
  // False after a write to stdout failed (its reader went away, its disk is full).
  bool stdout_works() const;

  static bool ErrorIsTerminal();

 private:
  struct Entry {
    Stream stream;
    std::string text;
  };

  void Queue(Stream stream, const std::string& text, size_t waiting_max);
  void ThreadMain();
  void WriteEntry(const Entry& entry, bool progress_shown);
  void WriteProgress(const std::string& text);
  bool IsIdle() const { return entries_.empty() && !progress_.has_value() && !busy_; }

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  // Guarded by mutex_.
  std::deque<Entry> entries_;
  std::optional<std::string> progress_;  // not written yet
  uint64_t dropped_ = 0;
  bool busy_ = false;
  bool stopping_ = false;
  bool out_broken_ = false;

  std::thread thread_;  // last: it uses the others
};

}  // namespace faultline

#endif  // FAULTLINE_CLI_CONSOLE_H_
