#include "assembly/vm_abandon.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "assembly/stopped_process.h"
#include "memory/hook_armer.h"
#include "memory/page_poison.h"
#include "memory/page_state_memfd.h"
#include "memory/uffd_guest_memory_factory.h"
#include "vmm/qemu/kept_ram.h"

namespace faultline {
namespace {

constexpr int kHookAnswerTimeoutMs = 5000;
// What /proc/PID/fd calls the descriptor of a VM.
constexpr char kKvmVm[] = "anon_inode:kvm-vm";

class HookedVm final : public AbandonedVm {
 public:
  explicit HookedVm(const std::string& hook_path) : armer_(hook_path, kHookAnswerTimeoutMs) {}

  absl::Status Take(std::span<const KeptRegion> regions) {
    ASSIGN_OR_RETURN(ram_, OpenKeptRam(regions, /*writable=*/true));
    ASSIGN_OR_RETURN(process_id_, armer_.Attach());
    // The userfaultfd is not needed here: the hook keeps its own.
    ASSIGN_OR_RETURN(TakenMemory taken, armer_.Take(ram_.description.regions));
    ASSIGN_OR_RETURN(PageStateMemfd table, PageStateMemfd::Adopt(std::move(taken.page_state_memfd),
                                                                 ram_.description.layout()));
    table_ = std::make_unique<PageStateMemfd>(std::move(table));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<DumpedRegion>> Dump(int file) override {
    ASSIGN_OR_RETURN(std::unique_ptr<StoppedProcess> stopped, StoppedProcess::Stop(process_id_));
    return DumpRam(ram_.description, table_->table(), file);
  }

  absl::StatusOr<bool> UsesKvm() override {
    const std::string folder = fmt::format("/proc/{}/fd", process_id_);
    std::error_code error;
    for (std::filesystem::directory_iterator fd(folder, error), end; !error && fd != end;
         fd.increment(error)) {
      std::error_code closed;
      if (std::filesystem::read_symlink(fd->path(), closed) == kKvmVm) return true;
    }
    if (error) return ErrnoStatus(error.value(), fmt::format("look into '{}'", folder));
    return false;
  }

  absl::StatusOr<uint64_t> Poison() override {
    RETURN_IF_ERROR(CheckPoisonLasts(ram_.description.regions));
    UffdGuestMemoryFactory factory(&armer_, nullptr, {});
    ASSIGN_OR_RETURN(std::unique_ptr<UffdMemory> memory, factory.TakeOverUffd(ram_.description));
    // The first touch of a poisoned page can end the process: all of them come before it. Under KVM
    // a vCPU that misses a page does not stop, and it is the guest that gets the error there.
    absl::StatusOr<std::unique_ptr<StoppedProcess>> stopped = StoppedProcess::Stop(process_id_);
    ASSIGN_OR_RETURN(uint64_t poisoned, PoisonMissing(memory.get()));
    if (stopped.ok()) stopped->reset();
    absl::Status released = memory->Disarm().status();
    // Without KVM it mostly has died by now, or writes its core: there is nothing left to let go.
    if (absl::IsUnavailable(released) || absl::IsDeadlineExceeded(released)) return poisoned;
    RETURN_IF_ERROR(released);
    return poisoned;
  }

 private:
  HookArmer armer_;
  KeptRam ram_;
  int process_id_ = 0;
  std::unique_ptr<PageStateMemfd> table_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AbandonedVm>> TakeAbandonedVm(const std::string& hook_path,
                                                             std::span<const KeptRegion> regions) {
  auto vm = std::make_unique<HookedVm>(hook_path);
  RETURN_IF_ERROR(vm->Take(regions));
  return vm;
}

}  // namespace faultline
