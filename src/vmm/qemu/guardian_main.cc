#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "base/private_path.h"
#include "base/text.h"
#include "runtime/journal/file_journal.h"
#include "vmm/qemu/guardian.h"
#include "vmm/qemu/guardian_wire.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/source_rollback.h"

namespace faultline {
namespace {

constexpr size_t kPacketBytesMax = 64 << 10;

void Say(const std::string& text) {
  fmt::print(stderr, "faultline guardian: {}\n", text);
  std::fflush(stderr);
}

// Reads the lifeline until it ends. True if the parent is gone without having stood this process
// down; `plan` is then the last one given.
bool ParentDied(int lifeline, std::string* plan) {
  std::string packet(kPacketBytesMax, '\0');
  while (true) {
    ssize_t got = recv(lifeline, packet.data(), packet.size(), 0);
    // ECONNRESET: the parent died without having read all from here; its own words still wait.
    if (got < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
    if (got <= 0) return true;
    if (packet[0] == kGuardianStandDown) return false;
    if (packet[0] == kGuardianPlan) plan->assign(packet, 1, static_cast<size_t>(got) - 1);
  }
}

// The journal is read through the descriptor that was opened while all was well: a path that has
// vanished since must not look like "nothing was decided".
absl::StatusOr<JournalContent> ReadOpenJournal(const FileDescriptor& journal) {
  ASSIGN_OR_RETURN(std::string text, ReadTextFile(fmt::format("/proc/self/fd/{}", journal.get())));
  return ParseJournal(text);
}

absl::Status PutVmBack(const RollbackPlan& plan, const std::string& monitor_path) {
  absl::StatusOr<std::unique_ptr<QmpClient>> qmp =
      QmpClient::Inherit(FileDescriptor(kGuardianMonitorFd), monitor_path);
  absl::Status status = qmp.ok() ? RollBackSource(qmp->get(), plan) : qmp.status();
  if (!absl::IsUnavailable(status)) return status;
  qmp = QmpClient::Connect(monitor_path, nullptr);
  return qmp.ok() ? RollBackSource(qmp->get(), plan) : qmp.status();
}

absl::Status GuardSource(const FileDescriptor& journal, const std::string& encoded_plan,
                         const std::string& monitor_path) {
  absl::StatusOr<JournalContent> content = ReadOpenJournal(journal);
  if (!content.ok()) {
    return Annotate(content.status(),
                    "guardian: the journal cannot be read, so the VM is left as it is");
  }
  if (content->committed) {
    Say("the VM has been handed over: it is the destination's and is left alone here");
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(RollbackPlan plan, DecodePlan(encoded_plan));
  RETURN_IF_ERROR(PutVmBack(plan, monitor_path));
  static constexpr std::string_view kRecord = "6 rolled-back\n";
  [[maybe_unused]] ssize_t written = write(journal.get(), kRecord.data(), kRecord.size());
  Say("the migration's command died before the handover: the VM is back at work on the source");
  return absl::OkStatus();
}

absl::Status GuardDestination(const FileDescriptor& journal) {
  absl::StatusOr<JournalContent> content = ReadOpenJournal(journal);
  if (!content.ok()) {
    return Annotate(content.status(),
                    "guardian: the journal cannot be read, so QEMU is left as it is");
  }
  const bool stayed_with_source = content->last_phase == JournalPhase::kRolledBack;
  if ((content->loaded || content->committed) && !stayed_with_source) {
    Say("the VM is loaded here and may be this side's: its QEMU is left alone");
    return absl::OkStatus();
  }
  if (syscall(SYS_pidfd_send_signal, kGuardianProcessFd, SIGKILL, nullptr, 0) < 0 &&
      errno != ESRCH) {
    return ErrnoStatus(errno, "guardian: end the destination's QEMU");
  }
  Say(stayed_with_source
          ? "the VM stayed with the source: the destination's QEMU was ended"
          : "the command died before the VM was loaded: the destination's QEMU was ended");
  return absl::OkStatus();
}

}  // namespace

absl::Status RunGuardian(const std::vector<std::string>& arguments) {
  // What ends a whole terminal or service must not end this process before it has done its work.
  for (int signal_number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) {
    signal(signal_number, SIG_IGN);
  }
  if (arguments.size() != 3) {
    return absl::InvalidArgumentError(
        "'guardian' is started by 'faultline migrate' and 'faultline receive', not by hand");
  }
  absl::StatusOr<FileDescriptor> opened = OpenOwnFile(arguments[1], O_RDWR | O_APPEND);
  if (!opened.ok()) return Annotate(opened.status(), "guardian: the journal");
  const FileDescriptor journal = *std::move(opened);
  char ready = kGuardianReady;
  // EPIPE: the parent has died already, and the plan it sent before waits to be read.
  if (send(kGuardianLifelineFd, &ready, 1, MSG_NOSIGNAL) != 1 && errno != EPIPE) {
    return absl::InvalidArgumentError(
        "'guardian' is started by 'faultline migrate' and 'faultline receive', not by hand");
  }
  std::string plan;
  if (!ParentDied(kGuardianLifelineFd, &plan)) return absl::OkStatus();
  return arguments[0] == kGuardianSourceWord ? GuardSource(journal, plan, arguments[2])
                                             : GuardDestination(journal);
}

}  // namespace faultline
