// What the subcommands need from the rest of the project. main.cc gives the real parts, tests give
// their own.
#ifndef FAULTLINE_CLI_COMMAND_PARTS_H_
#define FAULTLINE_CLI_COMMAND_PARTS_H_

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "assembly/rdma_examination.h"
#include "assembly/sessions.h"
#include "assembly/tls_examination.h"
#include "assembly/vm_abandon.h"
#include "assembly/vm_reclaim.h"
#include "cli/doctor_line.h"
#include "seams/journal.h"

namespace faultline {

struct JournalFile {
  std::string path;
  Role role = Role::kSource;
  std::string migration_id;  // 32 hexadecimal digits; a receiving side's provisional one
};

struct CommandParts {
  std::function<absl::StatusOr<std::unique_ptr<Session>>(const MigrateOptions&, Journal*)>
      make_migrate;
  std::function<absl::StatusOr<std::unique_ptr<Session>>(const ReceiveOptions&, Journal*)>
      make_receive;
  std::string state_directory;  // where the journals of the next two put their durable copies
  // Creates a journal at a path that does not exist yet.
  std::function<absl::StatusOr<std::unique_ptr<Journal>>(const JournalFile&)> create_journal;
  // Goes on with a journal that is there.
  std::function<absl::StatusOr<std::unique_ptr<Journal>>(const JournalFile&)> open_journal;
  // The hidden `guardian` subcommand: its arguments; returns when its work is over.
  std::function<absl::Status(const std::vector<std::string>&)> run_guardian;
  // Looks at the certificates in a folder, or where migrations look if it is empty.
  std::function<TlsFacts(const std::string& directory)> examine_tls;
  std::function<RdmaFacts()> examine_rdma;
  // Takes the VM behind a monitor socket back, as assembly/vm_reclaim.h has it.
  std::function<ReclaimResult(const std::string& qmp_path, const KeptMigration& kept, Journal*)>
      reclaim_vm;
  // Takes hold of a VM whose source is lost, as assembly/vm_abandon.h has it.
  std::function<absl::StatusOr<std::unique_ptr<AbandonedVm>>(const std::string& hook_path,
                                                             std::span<const KeptRegion> regions)>
      take_abandoned_vm;
  // Asks the VM behind a monitor socket whether it can move. An error: the monitor did not answer.
  std::function<absl::StatusOr<std::vector<DoctorLine>>(const std::string& qmp_path)> examine_vm;
};

}  // namespace faultline

#endif  // FAULTLINE_CLI_COMMAND_PARTS_H_
