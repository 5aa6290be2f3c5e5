// Sessions that do what a test says, in place of the real assembly.
#ifndef FAULTLINE_TESTS_ASSEMBLY_FAKE_SESSIONS_H_
#define FAULTLINE_TESTS_ASSEMBLY_FAKE_SESSIONS_H_

#include <functional>
#include <future>
#include <memory>
#include <string>

#include "assembly/parts.h"
#include "assembly/sessions.h"

namespace faultline {

// What the next MakeSourceSession and MakeDestinationSession do. A test sets it, then starts
// sessions through the C ABI.
struct FakeSessionScript {
  using Run = std::function<SessionResult(SessionObserver*, std::future<std::string> cancelled)>;

  absl::Status made;  // what making a session says
  std::function<Run(SourceParts)> source;
  std::function<Run(DestinationParts)> destination;
};

// Installs a script for as long as it lives.
class FakeSessions {
 public:
  explicit FakeSessions(FakeSessionScript* script);
  ~FakeSessions();
  FakeSessions(const FakeSessions&) = delete;
  FakeSessions& operator=(const FakeSessions&) = delete;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_ASSEMBLY_FAKE_SESSIONS_H_
