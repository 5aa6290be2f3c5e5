// Remembers what a session said.
#ifndef FAULTLINE_TESTS_FAKES_RECORDING_OBSERVER_H_
#define FAULTLINE_TESTS_FAKES_RECORDING_OBSERVER_H_

#include <string>
#include <vector>

#include "engine/session_report.h"

namespace faultline {

class RecordingObserver : public SessionObserver {
 public:
  void OnListening(const std::string& address) override { address_ = address; }
  void OnPhase(Phase phase, const std::string&) override { phases_.push_back(phase); }
  void OnProgress(const ProgressSnapshot& snapshot) override { snapshots_.push_back(snapshot); }
  void OnNotice(const std::string& text) override { notices_.push_back(text); }

  const std::string& address() const { return address_; }
  const std::vector<Phase>& phases() const { return phases_; }
  const std::vector<ProgressSnapshot>& snapshots() const { return snapshots_; }
  const std::vector<std::string>& notices() const { return notices_; }
  bool Noticed(const std::string& part) const {
    for (const std::string& notice : notices_) {
      if (notice.find(part) != std::string::npos) return true;
    }
    return false;
  }

 private:
  std::string address_;
  std::vector<Phase> phases_;
  std::vector<ProgressSnapshot> snapshots_;
  std::vector<std::string> notices_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_RECORDING_OBSERVER_H_
