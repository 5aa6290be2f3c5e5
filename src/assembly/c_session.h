// What stands behind a faultline_session: a session on a thread of its own, and the guard that
// tells callbacks from other callers.
#ifndef FAULTLINE_ASSEMBLY_C_SESSION_H_
#define FAULTLINE_ASSEMBLY_C_SESSION_H_

#include <faultline/faultline.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "assembly/sessions.h"
#include "base/file_descriptor.h"
#include "engine/session_report.h"
#include "seams/journal.h"

namespace faultline {

// Which thread is inside a callback of the program. Any thread.
class CallbackGuard {
 public:
  // Marks the calling thread as long as it lives. Callbacks come one at a time.
  class Scope {
   public:
    explicit Scope(CallbackGuard* guard) : guard_(guard) {
      guard_->inside_.store(std::this_thread::get_id());
    }
    ~Scope() { guard_->inside_.store(std::thread::id()); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    CallbackGuard* const guard_;
  };

  bool InsideCallback() const { return inside_.load() == std::this_thread::get_id(); }

 private:
  std::atomic<std::thread::id> inside_{};
};

// The program that holds the guest also holds its state: should it die, the guest dies with it, and
// nobody could use a journal.
class NoJournal : public Journal {
 public:
  absl::Status Record(JournalPhase) override { return absl::OkStatus(); }
  absl::Status MakeDurable() override { return absl::OkStatus(); }
};

// Duplicates of the regions' files; they outlive whoever uses them.
using RegionFiles = std::vector<std::shared_ptr<FileDescriptor>>;

// Thread safety: any thread, except that callbacks must not call Wait or destroy it.
class CSession : private SessionObserver {
 public:
  struct Parts {
    RegionFiles files;
    std::unique_ptr<Journal> journal;
    std::shared_ptr<CallbackGuard> guard;
    faultline_events events{};
    void* user = nullptr;
  };

  // `session` may use what is in `parts`.
  CSession(Parts parts, std::unique_ptr<Session> session);
  // Begins; apart from the constructor, so that callbacks already find the handle in its place.
  void Start();
  // Waits for the end.
  ~CSession() override;

  bool InsideCallback() const { return parts_.guard->InsideCallback(); }
  faultline_result Wait();
  void Cancel(const std::string& reason);
  faultline_statistics Statistics();

 private:
  void OnListening(const std::string& address) override;
  void OnPhase(Phase phase, const std::string& migration_id) override;
  void OnProgress(const ProgressSnapshot& snapshot) override;
  void OnNotice(const std::string& text) override;
  void Run();
  // Calls an event's function, if the program gave one.
  template <typename... Parameters, typename... Arguments>
  void Tell(void (*event)(void*, Parameters...), Arguments... arguments) {
    if (event == nullptr) return;
    const CallbackGuard::Scope scope(parts_.guard.get());
    event(parts_.user, arguments...);
  }

  // Constant after construction.
  const Parts parts_;
  const std::unique_ptr<Session> session_;

  std::mutex mutex_;
  std::condition_variable ended_;            // with mutex_
  bool has_begun_ = false;                   // guarded by mutex_
  std::optional<std::string> early_cancel_;  // guarded by mutex_
  bool has_ended_ = false;                   // guarded by mutex_
  faultline_result result_{};                // guarded by mutex_
  faultline_statistics statistics_{};        // guarded by mutex_

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_C_SESSION_H_
