#include "assembly/vm_abandon.h"

#include <utility>

#include "assembly/stopped_process.h"
#include "memory/hook_armer.h"
#include "memory/page_state_memfd.h"
#include "vmm/qemu/kept_ram.h"

namespace faultline {
namespace {

constexpr int kHookAnswerTimeoutMs = 5000;

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
