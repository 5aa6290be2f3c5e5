// The latest state of this process's migration, for whoever asks.
//
// Thread safety: any thread may call everything.
#ifndef FAULTLINE_CLI_STATUS_BOARD_H_
#define FAULTLINE_CLI_STATUS_BOARD_H_

#include <mutex>
#include <string>

#include "engine/session_report.h"

namespace faultline {

struct SessionState {
  Role role = Role::kSource;
  std::string migration_id;
  bool id_agreed = true;  // false on a destination that no source has connected to yet
  std::string endpoint;   // where it connects to or listens
  Phase phase = Phase::kConnecting;
  ProgressSnapshot progress;
};

class StatusBoard {
 public:
  explicit StatusBoard(SessionState state) : state_(std::move(state)) {}

  SessionState Get() const {
    std::lock_guard lock(mutex_);
    return state_;
  }
  void SetEndpoint(const std::string& endpoint) {
    std::lock_guard lock(mutex_);
    state_.endpoint = endpoint;
  }
  void SetPhase(Phase phase) {
    std::lock_guard lock(mutex_);
    state_.phase = phase;
  }
  void SetProgress(const ProgressSnapshot& progress) {
    std::lock_guard lock(mutex_);
    state_.progress = progress;
  }
  void SetAgreedId(const std::string& migration_id) {
    std::lock_guard lock(mutex_);
    state_.migration_id = migration_id;
    state_.id_agreed = true;
  }

 private:
  mutable std::mutex mutex_;
  SessionState state_;
};

// From the handover on, a migration cannot be cancelled.
inline bool PastHandover(Phase phase) {
  return phase == Phase::kPostCopy || phase == Phase::kReconnecting || phase == Phase::kCompleted;
}

}  // namespace faultline

#endif  // FAULTLINE_CLI_STATUS_BOARD_H_
