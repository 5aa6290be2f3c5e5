#include "engine/session_report.h"

namespace faultline {

const char* PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kConnecting:
      return "connecting";
    case Phase::kPreparing:
      return "preparing";
    case Phase::kFreezing:
      return "freezing";
    case Phase::kHandingOver:
      return "handing-over";
    case Phase::kPostCopy:
      return "post-copy";
    case Phase::kCompleted:
      return "completed";
    case Phase::kFailed:
      return "failed";
    case Phase::kPreCopy:
      return "pre-copy";
    case Phase::kReconnecting:
      return "reconnecting";
  }
  return "?";
}

const char* OwnerName(VmOwner owner) {
  switch (owner) {
    case VmOwner::kSource:
      return "source";
    case VmOwner::kDestination:
      return "destination";
    case VmOwner::kUndecided:
      return "undecided";
  }
  return "?";
}

}  // namespace faultline
