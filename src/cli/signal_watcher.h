// Signals as calls on a thread of their own, instead of handlers.
#ifndef FAULTLINE_CLI_SIGNAL_WATCHER_H_
#define FAULTLINE_CLI_SIGNAL_WATCHER_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline {

class SignalWatcher {
 public:
  // `callback` gets "SIGINT", "SIGTERM" or "SIGHUP", on the watcher's thread, each time one comes.
  // Threads that start after this inherit the blocked signals, so call it before there are others.
  // A SIGHUP that the caller's parent ignores (nohup) stays ignored.
  static absl::StatusOr<std::unique_ptr<SignalWatcher>> Start(
      std::function<void(const std::string&)> callback);
  // After it returns there are no more calls. The signals stay blocked.
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  SignalWatcher(FileDescriptor signals, FileDescriptor stop,
                std::function<void(const std::string&)> callback);
  void ThreadMain();

  const FileDescriptor signals_;
  const FileDescriptor stop_;
  const std::function<void(const std::string&)> callback_;
  std::thread thread_;
};

}  // namespace faultline

#endif  // FAULTLINE_CLI_SIGNAL_WATCHER_H_
