#include "assembly/fake_sessions.h"

#include <utility>

#include "assembly/own_memory.h"

namespace faultline {
namespace {

// The functions of parts.h have no room for a script: it has to come by the side.
FakeSessionScript* current_script = nullptr;

class FakeSession : public Session {
 public:
  explicit FakeSession(FakeSessionScript::Run run) : run_(std::move(run)) {}
  SessionResult Run(SessionObserver* observer) override {
    return run_(observer, cancelled_.get_future());
  }
  void Cancel(const std::string& reason) override { cancelled_.set_value(reason); }

 private:
  const FakeSessionScript::Run run_;
  std::promise<std::string> cancelled_;
};

}  // namespace

FakeSessions::FakeSessions(FakeSessionScript* script) { current_script = script; }
FakeSessions::~FakeSessions() { current_script = nullptr; }

absl::StatusOr<std::unique_ptr<Session>> MakeSourceSession(SourceParts parts) {
  RETURN_IF_ERROR(current_script->made);
  return std::make_unique<FakeSession>(current_script->source(std::move(parts)));
}

absl::StatusOr<std::unique_ptr<Session>> MakeDestinationSession(DestinationParts parts) {
  RETURN_IF_ERROR(current_script->made);
  return std::make_unique<FakeSession>(current_script->destination(std::move(parts)));
}

std::unique_ptr<GuestMemoryFactory> MakeOwnMemory(Executor*, FdPoller*, FileDescriptor) {
  return nullptr;  // no test gets that far
}

}  // namespace faultline
