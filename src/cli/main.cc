// The `faultline` command with its real parts.
#include <string>
#include <vector>

#include "assembly/rdma_examination.h"
#include "assembly/sessions.h"
#include "assembly/tls_examination.h"
#include "assembly/vm_abandon.h"
#include "assembly/vm_reclaim.h"
#include "cli/command_line.h"
#include "cli/vm_examination.h"
#include "runtime/journal/file_journal.h"
#include "vmm/qemu/guardian.h"

namespace faultline {
namespace {

constexpr char kStateDirectory[] = "/var/lib/faultline";

absl::StatusOr<std::unique_ptr<Journal>> CreateJournal(const JournalFile& file) {
  return FileJournal::Create(file.path, kStateDirectory, file.migration_id,
                             file.role == Role::kSource ? "source" : "destination");
}

absl::StatusOr<std::unique_ptr<Journal>> OpenJournal(const JournalFile& file) {
  return FileJournal::Open(file.path, kStateDirectory);
}

}  // namespace
}  // namespace faultline

int main(int argc, char** argv) {
  faultline::CommandParts parts{
      .make_migrate = faultline::MakeMigrateSession,
      .make_receive = faultline::MakeReceiveSession,
      .state_directory = faultline::kStateDirectory,
      .create_journal = faultline::CreateJournal,
      .open_journal = faultline::OpenJournal,
      .run_guardian = faultline::RunGuardian,
      .examine_tls = faultline::ExamineTls,
      .examine_rdma = faultline::ExamineRdma,
      .reclaim_vm = faultline::ReclaimVm,
      .take_abandoned_vm = faultline::TakeAbandonedVm,
      .examine_vm = faultline::ExamineVm,
  };
  return faultline::RunCommandLine(parts, std::vector<std::string>(argv + 1, argv + argc));
}
