// The `faultline` command over sessions that follow a script: real options, signals, sockets and
// output, no VM. The script is the environment variable FAKE_SESSION:
//
//   complete        goes through all phases
//   fail-before     fails while it prepares: the VM is the source's
//   fail-after      fails in post-copy: the VM is the destination's
//   undecided       a destination that never learned whose the VM is
//   hold-before     prepares until it is cancelled
//   hold-after      stays in post-copy until something was cancelled twice (which changes nothing
//                   but gives a notice), then completes
//   hold-listening  a destination that waits for a source until it is cancelled
//   refuse          options that the session finds senseless
//   disk-locked     'reclaim': the destination's QEMU lives
//   disk-full       'abandon': the dump does not fit
//   kvm, old-kernel 'abandon': the VM runs under KVM; the kernel knows no poison
//   throw-before, throw-after, throw-thread
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "cli/command_line.h"
#include "runtime/journal/file_journal.h"

namespace faultline {
namespace {

constexpr char kArrivingId[] = "0123456789abcdef0123456789abcdef";

std::string Script() {
  const char* script = getenv("FAKE_SESSION");
  return script == nullptr ? "complete" : script;
}

class FileMarker final : public Journal {
 public:
  explicit FileMarker(const std::string& path) : file_(path) {}
  absl::Status Record(JournalPhase phase) override {
    file_ << static_cast<int>(phase) << std::endl;
    return absl::OkStatus();
  }
  absl::Status MakeDurable() override { return absl::OkStatus(); }

 private:
  std::ofstream file_;
};

class ScriptedSession final : public Session {
 public:
  ScriptedSession(Role role, std::string id, Journal* journal)
      : role_(role), id_(std::move(id)), journal_(journal) {}

  void Cancel(const std::string& reason) override {
    std::lock_guard lock(mutex_);
    reason_ = reason;
    ++cancels_;
    changed_.notify_all();
  }

  SessionResult Run(SessionObserver* observer) override {
    observer_ = observer;
    observer->OnPhase(Phase::kConnecting, role_ == Role::kSource ? id_ : "");
    if (role_ == Role::kDestination) {
      observer->OnListening("tcp://127.0.0.1:45678");
      if (Script() == "hold-listening") return WaitForCancel();
    }
    observer->OnPhase(Phase::kPreparing, id_);
    (void)journal_->Record(JournalPhase::kPreparing);
    if (Script() == "fail-before") return End(absl::UnavailableError("the peer hung up"));
    if (Script() == "throw-before") throw std::bad_alloc();
    if (Script() == "throw-thread") std::thread([] { throw std::bad_alloc(); }).join();
    if (Script() == "hold-before") return WaitForCancel();
    observer->OnPhase(Phase::kFreezing, id_);
    observer->OnPhase(Phase::kHandingOver, id_);
    if (Script() == "undecided") {
      owner_ = VmOwner::kUndecided;
      return End(absl::UnavailableError("the source fell silent before its decision"));
    }
    owner_ = VmOwner::kDestination;
    observer->OnPhase(Phase::kPostCopy, id_);
    Progress();
    if (Script() == "throw-after") throw std::runtime_error("broken");
    if (Script() == "fail-after") return End(absl::DataLossError("the source is gone"));
    if (Script() == "hold-after") RefuseTwice();
    observer->OnPhase(Phase::kCompleted, id_);
    return End(absl::OkStatus());
  }

 private:
  void Progress() {
    snapshot_.phase = Phase::kPostCopy;
    snapshot_.pages_total = 1000;
    snapshot_.pages_absent = 600;
    snapshot_.pages_discarded = 4;
    snapshot_.bytes_total = 4096000;
    for (uint64_t step = 1; step <= 3; ++step) {
      snapshot_.pages_demand = 10 * step;
      snapshot_.pages_pushed = 100 * step;
      snapshot_.pages_missing = 396 - 110 * step;
      snapshot_.faults = 11 * step;
      snapshot_.bytes_wire = 450560 * step;
      snapshot_.elapsed_us = 100000 * step;
      snapshot_.post_copy_us = 90000 * step;
      observer_->OnProgress(snapshot_);
    }
  }

  SessionResult WaitForCancel() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return cancels_ > 0; });
    return End(absl::CancelledError(reason_));
  }

  void RefuseTwice() {
    std::unique_lock lock(mutex_);
    for (int seen = 0; seen < 2; ++seen) {
      changed_.wait(lock, [this, seen] { return cancels_ > seen; });
      observer_->OnNotice("not stopped: the VM needs the memory that is still on the source");
    }
  }

  SessionResult End(absl::Status status) {
    SessionResult result;
    result.status = std::move(status);
    result.owner = owner_;
    if (result.owner != VmOwner::kSource || role_ == Role::kSource) result.migration_id = id_;
    result.transport = "tcp";
    result.last = snapshot_;
    result.downtime_us = 12345;
    result.total_us = 270000;
    result.fault_latency_us = {33, 50, 90, 99, 100, 101};
    return result;
  }

  const Role role_;
  const std::string id_;
  Journal* const journal_;
  SessionObserver* observer_ = nullptr;
  VmOwner owner_ = VmOwner::kSource;
  ProgressSnapshot snapshot_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string reason_;
  int cancels_ = 0;
};

// On its one line, for tests of what `--resume` keeps.
void WriteOptions(const std::string& text) {
  if (const char* path = getenv("FAKE_OPTIONS_FILE")) std::ofstream(path) << text;
}

absl::StatusOr<std::unique_ptr<Session>> MakeMigrate(const MigrateOptions& options,
                                                     Journal* journal) {
  WriteOptions(fmt::format(
      "to={} bandwidth={} compress={} order={} poll={} limit={} quit={} sandbox={} rdma={} "
      "control={}",
      options.to_uri, options.bandwidth_bytes_per_second, static_cast<int>(options.compression),
      options.push_order, options.poll_us, options.recovery_timeout_us, options.quit_source,
      options.confine, options.rdma.tuning, options.rdma.control));
  if (Script() == "refuse") return absl::InvalidArgumentError("plain TCP needs --insecure");
  return std::make_unique<ScriptedSession>(Role::kSource, options.migration_id, journal);
}

absl::StatusOr<std::unique_ptr<Session>> MakeReceive(const ReceiveOptions& options,
                                                     Journal* journal) {
  WriteOptions(fmt::format(
      "hook={} poll={} limit={} around={} huge={} sandbox={} rdma={} control={}", options.hook_path,
      options.poll_us, options.recovery_timeout_us, options.read_around, options.huge_pages,
      options.confine, options.rdma.tuning, options.rdma.control));
  if (Script() == "refuse") return absl::InvalidArgumentError("plain TCP needs --insecure");
  const char* id = getenv("FAKE_ID");
  return std::make_unique<ScriptedSession>(Role::kDestination, id == nullptr ? kArrivingId : id,
                                           journal);
}

absl::StatusOr<std::unique_ptr<Journal>> CreateJournal(const JournalFile& file) {
  return std::make_unique<FileMarker>(file.path);
}

absl::StatusOr<std::unique_ptr<Journal>> OpenJournal(const JournalFile& file) {
  return FileJournal::Open(file.path, "/nonexistent");
}

const char* StateDirectory() {
  const char* path = getenv("FAKE_STATE_DIRECTORY");
  return path != nullptr ? path : "/nonexistent";
}

absl::Status RunGuardian(const std::vector<std::string>& arguments) {
  if (arguments.size() == 2) return absl::OkStatus();
  return absl::InvalidArgumentError("the fake guardian wants two arguments");
}

TlsFacts ExamineFakeTls(const std::string& directory) {
  TlsFacts facts;
  if (directory.empty()) return facts;
  facts.directory = directory;
  facts.as_source = "2031-02-03";
  return facts;
}

ReclaimResult ReclaimFakeVm(const std::string& qmp_path, const KeptMigration& kept,
                            Journal* journal) {
  ReclaimResult result;
  if (Script() == "disk-locked") {
    result.status = absl::FailedPreconditionError("the lock on a disk is held");
    return result;
  }
  result.status = journal->Record(JournalPhase::kReclaimed);
  result.owned = result.status.ok();
  result.runs = kept.run;
  result.notices = {"asked " + qmp_path};
  return result;
}

// One region of eight pages: the second is there, and the last four are missing.
class FakeAbandonedVm final : public AbandonedVm {
 public:
  absl::StatusOr<std::vector<DumpedRegion>> Dump(int file) override {
    if (Script() == "disk-full") return absl::ResourceExhaustedError("the dump's disk is full");
    DumpedRegion region{.layout = {"ram0", 8 * 4096, 4096}, .offset_bytes = 0, .missing = {}};
    region.missing.Add(4, 8);
    const std::string page(4096, 'x');
    if (ftruncate(file, 8 * 4096) < 0 || pwrite(file, page.data(), page.size(), 4096) != 4096) {
      return absl::InternalError("the dump cannot be written");
    }
    return std::vector<DumpedRegion>{region};
  }
  absl::StatusOr<bool> UsesKvm() override { return Script() == "kvm"; }
  absl::StatusOr<uint64_t> Poison() override {
    if (Script() == "old-kernel") return absl::UnimplementedError("Linux 6.6 and later can");
    return 4;
  }
};

absl::StatusOr<std::unique_ptr<AbandonedVm>> TakeFakeAbandonedVm(const std::string& hook_path,
                                                                 std::span<const KeptRegion>) {
  if (hook_path == "/nobody") return absl::UnavailableError("nobody serves the hook '/nobody'");
  return std::make_unique<FakeAbandonedVm>();
}

absl::StatusOr<std::vector<DoctorLine>> ExamineVm(const std::string& qmp_path) {
  if (qmp_path == "/nobody") return absl::UnavailableError("nobody answers at '/nobody'");
  return std::vector<DoctorLine>{{"VM", DoctorLevel::kOk, "2 RAM blocks", ""}};
}

}  // namespace
}  // namespace faultline

int main(int argc, char** argv) {
  faultline::CommandParts parts{
      .make_migrate = faultline::MakeMigrate,
      .make_receive = faultline::MakeReceive,
      .state_directory = faultline::StateDirectory(),
      .create_journal = faultline::CreateJournal,
      .open_journal = faultline::OpenJournal,
      .run_guardian = faultline::RunGuardian,
      .examine_tls = faultline::ExamineFakeTls,
      .examine_rdma = [] { return faultline::RdmaFacts{}; },
      .reclaim_vm = faultline::ReclaimFakeVm,
      .take_abandoned_vm = faultline::TakeFakeAbandonedVm,
      .examine_vm = faultline::ExamineVm,
  };
  return faultline::RunCommandLine(parts, std::vector<std::string>(argv + 1, argv + argc));
}
