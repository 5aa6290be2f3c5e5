#include "cli/cancel_switch.h"

#include <sys/eventfd.h>

#include <cerrno>

namespace faultline {

absl::StatusOr<CancelSwitch> CancelSwitch::Make() {
  FileDescriptor event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return ErrnoStatus(errno, "make an event descriptor");
  return CancelSwitch(std::move(event));
}

void CancelSwitch::Request(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (reason_.empty()) reason_ = reason;
  eventfd_write(event_.get(), 1);
  if (session_ != nullptr) session_->Cancel(reason);
}

void CancelSwitch::RequestSwitch() {
  std::lock_guard lock(mutex_);
  switch_asked_ = true;
  if (session_ != nullptr) session_->SwitchNow();
}

void CancelSwitch::Attach(Session* session) {
  std::lock_guard lock(mutex_);
  session_ = session;
  if (switch_asked_) session_->SwitchNow();
  if (!reason_.empty()) session_->Cancel(reason_);
}

void CancelSwitch::Detach() {
  std::lock_guard lock(mutex_);
  session_ = nullptr;
}

std::string CancelSwitch::reason() const {
  std::lock_guard lock(mutex_);
  return reason_;
}

}  // namespace faultline
