// One place where a command is asked to stop, or to switch to post-copy, whoever asks (a signal,
// `faultline cancel`, `faultline postcopy-now`) and whether its session exists already or not.
//
// Thread safety: any thread may call everything.
#ifndef FAULTLINE_CLI_CANCEL_SWITCH_H_
#define FAULTLINE_CLI_CANCEL_SWITCH_H_

#include <mutex>
#include <string>

#include "assembly/sessions.h"
#include "base/file_descriptor.h"

namespace faultline {

class CancelSwitch {
 public:
  static absl::StatusOr<CancelSwitch> Make();
  explicit CancelSwitch(FileDescriptor event) : event_(std::move(event)) {}
  // Only before other threads know of it.
  CancelSwitch(CancelSwitch&& other) noexcept : event_(std::move(other.event_)) {}

  // Hands `reason` to the session, now or when one is attached.
  void Request(const std::string& reason);
  // The same of Session::SwitchNow.
  void RequestSwitch();
  // The session gets requests until Detach, which waits for one that is being handed over.
  void Attach(Session* session);
  void Detach();
  // Empty: nobody asked.
  std::string reason() const;
  // Readable from the first request on.
  int event_fd() const { return event_.get(); }

 private:
  FileDescriptor event_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  Session* session_ = nullptr;
  std::string reason_;
  bool switch_asked_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_CLI_CANCEL_SWITCH_H_
