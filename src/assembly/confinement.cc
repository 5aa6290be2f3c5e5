#include "assembly/confinement.h"

#include <fmt/format.h>
#include <linux/capability.h>

#include <utility>

#include "runtime/confinement/capabilities.h"
#include "runtime/confinement/syscall_filter.h"

namespace faultline {
namespace {

// QEMU may be another user's: its monitor's and hook's sockets and its RAM files, what it maps and
// has open, and its end.
constexpr uint64_t kToPrepare = CapabilityBits({CAP_DAC_OVERRIDE, CAP_SYS_PTRACE, CAP_KILL});
// A port below 1024.
constexpr uint64_t kToListen = CapabilityBits({CAP_NET_BIND_SERVICE});
// A socket buffer of the size that the link needs (docs/adr/0009-bounded-queue.md).
constexpr uint64_t kToPush = CapabilityBits({CAP_NET_ADMIN});
constexpr uint64_t kToMakeHugePages = CapabilityBits({CAP_SYS_NICE, CAP_SYS_PTRACE});
// A QEMU that this command started ends with a migration that failed.
constexpr uint64_t kToFail = CapabilityBits({CAP_KILL});

}  // namespace

void Confinement::Note(const absl::Status& status) {
  if (status.ok()) return;
  notice_(fmt::format(
      "this host does not let the command give up all the rights that it has no need of ({}); "
      "the migration goes on",
      MessageOf(status)));
}

void Confinement::BeginSetUp(std::function<void(const std::string&)> notice) {
  if (options_.on && options_.rdma) {
    notice(
        "with rdma:// this command keeps its rights: the RDMA device may not be used after they "
        "change");
  }
  if (!gives_up()) return;
  notice_ = std::move(notice);
  const bool is_source = options_.side == ConfinedSide::kSource;
  uint64_t bulk = is_source ? kToPush : 0;
  if (options_.huge_pages) bulk |= kToMakeHugePages;
  Note(KeepOthersOut());
  Note(ForbidNewPrivileges());
  Note(KeepCapabilities(kToPrepare | bulk | (is_source ? 0 : kToListen)));
  // What a thread is given at its start it can only lose.
  loops_->demand.Post(KeepNoCapabilities);
  loops_->bulk.Post([bulk] { KeepCapabilities(bulk).IgnoreError(); });
}

void Confinement::EndPreparing() {
  if (!gives_up()) return;
  Note(InstallSyscallFilter({.advise_other_processes = options_.huge_pages}));
}

void Confinement::HoldMemory(bool listens_later) {
  if (!gives_up()) return;
  const uint64_t kept = options_.side == ConfinedSide::kSource ? 0 : kToFail;
  Note(KeepCapabilities(listens_later ? kept | kToListen : kept));
}

std::function<void()> ConfinementAtHandover(bool on, Executor* control) {
  if (!on) return {};
  return [control] {
    KeepNoCapabilities();
    control->Post(KeepNoCapabilities);
  };
}

}  // namespace faultline
