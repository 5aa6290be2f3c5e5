#include "memory/uffd_guest_memory_factory.h"

#include <fmt/format.h>

#include <vector>

#include "memory/destination_ram_check.h"
#include "memory/page_state_memfd.h"
#include "memory/ram_file.h"
#include "memory/ram_file_users.h"
#include "memory/room_check.h"
#include "memory/uffd_memory.h"
#include "memory/uffd_setup.h"

namespace faultline {
namespace {

absl::Status CheckFiles(const VmDescription& vm) {
  for (const RamRegion& region : vm.regions) {
    if (region.file < 0) continue;
    ASSIGN_OR_RETURN(RamFileKind kind, KindOfRamFile(region.file));
    RETURN_IF_ERROR(CheckRamFile(region, kind));
    if (vm.guest_may_discard && kind == RamFileKind::kHugetlbfs) {
      return absl::FailedPreconditionError(fmt::format(
          "RAM block '{}' is on hugetlbfs and the guest may give memory back (balloon, free-page "
          "reporting or virtio-mem), which the kernel does not report there; start both QEMUs "
          "without that device, or with RAM on tmpfs",
          region.layout.name));
    }
  }
  return CheckNoHugeTmpfs(vm.regions);
}

absl::StatusOr<FileUsers> FindUsers(std::span<const RamRegion> regions) {
  std::vector<FileIdentity> files;
  for (const RamRegion& region : regions) {
    files.emplace_back();
    if (region.file < 0) continue;
    ASSIGN_OR_RETURN(files.back(), IdentityOf(region.file));
  }
  return FindFileUsers(files);
}

}  // namespace

absl::StatusOr<FileUsers> UffdGuestMemoryFactory::CheckHost(const VmDescription& vm) {
  RETURN_IF_ERROR(ValidateLayout(vm.layout()));
  RETURN_IF_ERROR(CheckFiles(vm));
  if (!vm_process_id_.has_value()) {
    ASSIGN_OR_RETURN(vm_process_id_, armer_->Attach());
  }
  ASSIGN_OR_RETURN(FileUsers users, FindUsers(vm.regions));
  RETURN_IF_ERROR(CheckNobodyElseMaps(vm.regions, users, *vm_process_id_));
  ASSIGN_OR_RETURN(RoomFacts facts, ReadRoomFacts(vm.regions, *vm_process_id_));
  RETURN_IF_ERROR(CheckRoom(facts));
  return users;
}

absl::Status UffdGuestMemoryFactory::Check(const VmDescription& vm) {
  ASSIGN_OR_RETURN(FileUsers users, CheckHost(vm));
  // Leftovers that may be punched are, when the memory is armed.
  if (options_.may_punch_leftovers) return absl::OkStatus();
  return EnsureEmpty(vm.regions, users, *vm_process_id_, /*may_punch=*/false);
}

absl::StatusOr<std::unique_ptr<GuestMemory>> UffdGuestMemoryFactory::Arm(const VmDescription& vm) {
  ASSIGN_OR_RETURN(FileUsers users, CheckHost(vm));
  RETURN_IF_ERROR(EnsureEmpty(vm.regions, users, *vm_process_id_, options_.may_punch_leftovers));
  ASSIGN_OR_RETURN(PageStateMemfd page_state, PageStateMemfd::Create(vm.layout()));
  ASSIGN_OR_RETURN(ArmedMemory armed,
                   armer_->Arm(vm.regions, page_state.memfd(), PostCopyUffdFeatures()));
  absl::StatusOr<std::unique_ptr<UffdMemory>> memory =
      UffdMemory::Make(vm.regions, std::move(armed), std::move(page_state), poller_, armer_);
  if (!memory.ok()) {
    RETURN_IF_ERROR(armer_->Release());
    return memory.status();
  }
  // Before arming the VM's process may have touched a page; from now on it cannot.
  absl::Status empty =
      EnsureEmpty(vm.regions, users, *vm_process_id_, options_.may_punch_leftovers);
  if (!empty.ok()) {
    RETURN_IF_ERROR((*memory)->Disarm());
    return empty;
  }
  return *std::move(memory);
}

}  // namespace faultline
