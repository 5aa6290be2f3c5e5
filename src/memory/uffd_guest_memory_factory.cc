#include "memory/uffd_guest_memory_factory.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
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

// What is read below /proc/PID would fail with a sentence that only hints at it.
absl::Status CheckAlive(int process_id) {
  if (process_id == 0 || access(fmt::format("/proc/{}", process_id).c_str(), F_OK) == 0) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      fmt::format("the destination's hypervisor (QEMU, process {}) has ended; its reason stands in "
                  "its own log: start it again, and migrate again",
                  process_id));
}

// The hook behind the socket must be in the VM whose monitor described these regions: if it does
// not map them, what it says about its own process means nothing here.
absl::Status CheckSameVm(std::span<const RamRegion> regions, const FileUsers& users,
                         int process_id) {
  if (process_id == 0 || users.hidden_process_count > 0) return absl::OkStatus();
  for (size_t i = 0; i < regions.size(); ++i) {
    if (regions[i].file < 0) continue;
    bool maps = std::any_of(users.users.begin(), users.users.end(), [&](const FileUser& user) {
      return user.file == i && user.mapped && user.process_id == process_id;
    });
    if (maps) continue;
    return absl::FailedPreconditionError(
        fmt::format("the RAM file of '{}' is not mapped by process {}, whose hook was given: give "
                    "the hook's socket and the monitor of the same VM",
                    regions[i].layout.name, process_id));
  }
  return absl::OkStatus();
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

// A page lands and is noted in two steps, and the process may have died between them. Landing is
// atomic, so what the file has of a page that is called missing is the whole page.
absl::Status NoteLandedPages(const VmDescription& vm, PageTable* table) {
  for (RegionIndex region = 0; region < vm.regions.size(); ++region) {
    ASSIGN_OR_RETURN(RamFileKind kind, KindOfRamFile(vm.regions[region].file));
    ASSIGN_OR_RETURN(PageRangeSet data, ReadDataPages(vm.regions[region], kind));
    data.ForEach([&](PageRange range) {
      table->ChangeMissing({region, range.first, range.count()}, PageState::kInstalled);
    });
  }
  return absl::OkStatus();
}

// Whoever has use for it (UffdMemory::MakeHugePageMaker) says what is missing without it.
FileDescriptor OpenProcess(int process_id) {
  if (process_id == 0) return {};
  return FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, process_id, 0)));
}

}  // namespace

absl::StatusOr<FileUsers> UffdGuestMemoryFactory::CheckHost(const VmDescription& vm) {
  RETURN_IF_ERROR(ValidateLayout(vm.layout()));
  RETURN_IF_ERROR(CheckFiles(vm));
  if (!vm_process_id_.has_value()) {
    ASSIGN_OR_RETURN(vm_process_id_, armer_->Attach());
  }
  RETURN_IF_ERROR(CheckAlive(*vm_process_id_));
  ASSIGN_OR_RETURN(FileUsers users, FindUsers(vm.regions));
  RETURN_IF_ERROR(CheckSameVm(vm.regions, users, *vm_process_id_));
  RETURN_IF_ERROR(CheckNobodyElseMaps(vm.regions, users, *vm_process_id_));
  ASSIGN_OR_RETURN(RoomFacts facts, ReadRoomFacts(vm.regions, *vm_process_id_));
  RETURN_IF_ERROR(CheckRoom(facts));
  return users;
}

absl::Status UffdGuestMemoryFactory::Check(const VmDescription& vm) {
  ASSIGN_OR_RETURN(FileUsers users, CheckHost(vm));
  // Punching many leftovers takes long, and no source waits yet.
  return EnsureEmpty(vm.regions, users, *vm_process_id_, options_.may_punch_leftovers);
}

absl::StatusOr<std::unique_ptr<GuestMemory>> UffdGuestMemoryFactory::Arm(const VmDescription& vm) {
  ASSIGN_OR_RETURN(FileUsers users, CheckHost(vm));
  RETURN_IF_ERROR(EnsureEmpty(vm.regions, users, *vm_process_id_, options_.may_punch_leftovers));
  ASSIGN_OR_RETURN(PageStateMemfd page_state, PageStateMemfd::Create(vm.layout()));
  ASSIGN_OR_RETURN(ArmedMemory armed,
                   armer_->Arm(vm.regions, page_state.memfd(), PostCopyUffdFeatures()));
  armed.process = OpenProcess(*vm_process_id_);
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
    RETURN_IF_ERROR((*memory)->Disarm().status());
    return empty;
  }
  return *std::move(memory);
}

absl::StatusOr<TakenMemory> UffdGuestMemoryFactory::Take(const VmDescription& vm) {
  absl::StatusOr<TakenMemory> taken = armer_->Take(vm.regions);
  if (taken.ok()) taken->armed.process = OpenProcess(*vm_process_id_);
  return taken;
}

absl::StatusOr<std::unique_ptr<GuestMemory>> UffdGuestMemoryFactory::TakeOver(
    const VmDescription& vm) {
  RETURN_IF_ERROR(ValidateLayout(vm.layout()));
  ASSIGN_OR_RETURN(vm_process_id_, armer_->Attach());
  absl::StatusOr<TakenMemory> taken = Take(vm);
  if (absl::IsNotFound(taken.status())) return nullptr;
  RETURN_IF_ERROR(taken.status());
  return Use(*std::move(taken), vm);
}

absl::StatusOr<std::unique_ptr<UffdMemory>> UffdGuestMemoryFactory::TakeOverUffd(
    const VmDescription& vm) {
  RETURN_IF_ERROR(ValidateLayout(vm.layout()));
  ASSIGN_OR_RETURN(vm_process_id_, armer_->Attach());
  ASSIGN_OR_RETURN(TakenMemory taken, Take(vm));
  return Use(std::move(taken), vm);
}

absl::StatusOr<std::unique_ptr<UffdMemory>> UffdGuestMemoryFactory::Use(TakenMemory taken,
                                                                        const VmDescription& vm) {
  ASSIGN_OR_RETURN(PageStateMemfd page_state,
                   PageStateMemfd::Adopt(std::move(taken.page_state_memfd), vm.layout()));
  ASSIGN_OR_RETURN(
      std::unique_ptr<UffdMemory> memory,
      UffdMemory::Make(vm.regions, std::move(taken.armed), std::move(page_state), poller_, armer_));
  RETURN_IF_ERROR(NoteLandedPages(vm, &memory->table()));
  // The one before may have read faults that it never answered.
  for (RegionIndex region = 0; region < vm.regions.size(); ++region) {
    RETURN_IF_ERROR(memory->Wake({region, 0, vm.regions[region].layout.page_count()}));
  }
  return memory;
}

}  // namespace faultline
