#include "vmm/qemu/vm_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "pages/memory_layout.h"

namespace faultline {
namespace {

template <typename... Args>
absl::Status Refuse(fmt::format_string<Args...> text, Args&&... args) {
  return absl::FailedPreconditionError(fmt::format(text, std::forward<Args>(args)...));
}

constexpr std::string_view kBackendMend =
    "give the VM its RAM as -object memory-backend-file,id=ID,size=SIZE,mem-path=/dev/shm/FILE,"
    "share=on -machine memory-backend=ID";

const MemoryBackend* BackendOf(const VmFacts& facts, const RamBlock& block) {
  for (const MemoryBackend& backend : facts.backends) {
    // Some machine types name the block after the object's path.
    if (block.name == backend.id || block.name == "/objects/" + backend.id) return &backend;
  }
  return nullptr;
}

absl::Status CheckBackend(const VmFacts& facts, const MemoryBackend& backend) {
  if (backend.type == "memory-backend-memfd" && facts.version.AtLeast(8, 1)) {
    return Refuse(
        "RAM '{}' is a memory-backend-memfd, which QEMU 8.1 and later sends in its own stream: {}",
        backend.id, kBackendMend);
  }
  if (backend.type != "memory-backend-file") {
    return Refuse("RAM '{}' is a {}, whose memory has no file to migrate from: {}", backend.id,
                  backend.type, kBackendMend);
  }
  if (!backend.share) {
    return Refuse(
        "RAM '{}' is not shared (share=off), so that its file does not hold the guest's "
        "memory: add share=on to its memory-backend-file",
        backend.id);
  }
  if (backend.readonly) {
    return Refuse(
        "RAM '{}' is read-only (readonly=on), which cannot be migrated: take the device "
        "that uses it out of the VM",
        backend.id);
  }
  return absl::OkStatus();
}

// Before 8.1 QEMU skips every shared block, also those that no backend stands for.
absl::Status CheckForeignBlock(const VmFacts& facts, const RamBlock& block) {
  if (facts.version.AtLeast(8, 1)) return absl::OkStatus();
  for (const ProcessMapping& mapping : facts.mappings) {
    if (!mapping.shared || mapping.path.starts_with("anon_inode:")) continue;
    if (mapping.end - mapping.start != block.total_bytes) continue;
    return Refuse(
        "QEMU {}.{} would leave the shared RAM block '{}' ({}) out of its stream, and it is not in "
        "a memory-backend-file that Faultline could move: take the device that has it (ivshmem, "
        "for example) out of the VM, or use QEMU 8.1 or later",
        facts.version.major, facts.version.minor, block.name, mapping.path);
  }
  return absl::OkStatus();
}

absl::Status CheckFile(const VmFacts& facts, const MemoryBackend& backend) {
  if (backend.file_system == FileSystem::kOther) {
    return Refuse(
        "the RAM file '{}' of '{}' lies on a disk file system, where userfaultfd does not work: "
        "put it on tmpfs (/dev/shm) or hugetlbfs (mem-path=)",
        backend.mem_path, backend.id);
  }
  if (backend.file_system != FileSystem::kTmpfs) return absl::OkStatus();
  for (std::string_view huge : {"huge=always", "huge=within_size"}) {
    if (backend.mount_options.find(huge) == std::string::npos) continue;
    return Refuse(
        "the RAM file '{}' of '{}' lies on a tmpfs mounted {}, whose huge pages hide which small "
        "pages are missing: mount it with huge=never (mount -o remount,huge=never), or use "
        "hugetlbfs",
        backend.mem_path, backend.id, huge);
  }
  if (facts.huge_shmem_forced) {
    return Refuse(
        "this host forces huge pages on every tmpfs, which hide which small pages are missing: "
        "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
  }
  return absl::OkStatus();
}

// Devices whose memory access does not go through QEMU's own mapping.
struct BadDevice {
  std::string_view type_prefix;
  std::string_view why;
};
constexpr std::array kBadDevices = {
    BadDevice{"vhost-user", "another process reads and writes the guest's memory (vhost-user)"},
    BadDevice{"cryptodev-vhost-user",
              "another process reads and writes the guest's memory (vhost-user)"},
    BadDevice{"vhost-vdpa", "hardware reads and writes the guest's memory (vDPA)"},
    BadDevice{"vfio-", "hardware reads and writes the guest's memory (VFIO)"},
    BadDevice{"x-vfio-", "hardware reads and writes the guest's memory (VFIO)"},
    BadDevice{"ivshmem", "other processes share its memory (ivshmem)"},
};

absl::Status CheckDevices(const VmFacts& facts) {
  for (const VmDevice& device : facts.devices) {
    for (const BadDevice& bad : kBadDevices) {
      if (!device.type.starts_with(bad.type_prefix)) continue;
      return Refuse(
          "device '{}' ({}) is in the way: {}, which post-copy cannot stop from touching "
          "missing pages: unplug it (device_del) and migrate again",
          device.name, device.type, bad.why);
    }
  }
  for (std::string_view type : {"vhost-user", "vhost-vdpa"}) {
    if (facts.network_text.find(fmt::format("type={}", type)) == std::string::npos) continue;
    return Refuse(
        "a network card of the VM uses {}, so that something outside QEMU reads and "
        "writes the guest's memory: give it a tap, bridge or user back end, or unplug it",
        type == "vhost-vdpa" ? "vDPA (vhost-vdpa)" : type);
  }
  static constexpr std::array<std::string_view, 4> kBadDrivers = {
      "nvme", "virtio-blk-vfio-pci", "virtio-blk-vhost-user", "virtio-blk-vhost-vdpa"};
  for (const std::string& driver : facts.block_drivers) {
    if (std::find(kBadDrivers.begin(), kBadDrivers.end(), driver) == kBadDrivers.end()) continue;
    return Refuse(
        "a disk of the VM uses QEMU's block driver '{}', which hands the guest's memory "
        "to hardware or another process (VFIO, vhost-user or vDPA): use a file or a host "
        "block device",
        driver);
  }
  return absl::OkStatus();
}

absl::Status CheckCapabilities(const VmFacts& facts) {
  if (facts.capabilities.find("x-ignore-shared") == facts.capabilities.end()) {
    return Refuse(
        "this {} cannot leave shared RAM out of its migration stream (it has no "
        "x-ignore-shared): use QEMU 7.2 or later",
        facts.version_text);
  }
  static constexpr std::array<std::string_view, 11> kInTheWay = {
      "postcopy-ram",  "multifd", "zero-copy-send", "mapped-ram", "background-snapshot",
      "return-path",   "x-colo",  "block",          "compress",   "postcopy-preempt",
      "switchover-ack"};
  for (std::string_view name : kInTheWay) {
    auto found = facts.capabilities.find(std::string(name));
    if (found == facts.capabilities.end() || !found->second) continue;
    return Refuse(
        "QEMU's migration capability '{}' is set, which does not go together with "
        "Faultline's own: switch it off first (migrate-set-capabilities; in the human "
        "monitor: migrate_set_capability {} off)",
        name, name);
  }
  if (!facts.tls_creds.empty()) {
    return Refuse(
        "QEMU's migration parameter 'tls-creds' is set ('{}'), and Faultline carries the "
        "stream itself: clear it first (migrate-set-parameters tls-creds=\"\")",
        facts.tls_creds);
  }
  if (!facts.migration_mode.empty() && facts.migration_mode != "normal") {
    return Refuse(
        "QEMU's migration parameter 'mode' is '{}': set it to 'normal' first "
        "(migrate-set-parameters)",
        facts.migration_mode);
  }
  return absl::OkStatus();
}

absl::Status CheckNoMigration(const VmFacts& facts) {
  static constexpr std::array<std::string_view, 5> kOver = {"", "none", "completed", "failed",
                                                            "cancelled"};
  if (std::find(kOver.begin(), kOver.end(), facts.migration_status) != kOver.end()) {
    return absl::OkStatus();
  }
  return Refuse(
      "QEMU has another migration of this VM under way (query-migrate says '{}'): wait "
      "for it, or end it with migrate_cancel",
      facts.migration_status);
}

// What holds for both sides alike.
absl::Status CheckVm(const VmFacts& facts) {
  if (!facts.version.AtLeast(7, 2)) {
    return Refuse("{} is too old: Faultline needs QEMU 7.2 or later", facts.version_text);
  }
  RETURN_IF_ERROR(CheckCapabilities(facts));
  if (facts.confidential) {
    return Refuse(
        "this is a confidential VM (SEV, TDX or alike), whose memory cannot be copied from "
        "outside: "
        "it cannot be migrated by Faultline");
  }
  RETURN_IF_ERROR(CheckDevices(facts));
  if (!facts.blocked_reasons.empty()) {
    return Refuse(
        "QEMU itself cannot migrate this VM: {} (take the device or setting that this names "
        "out of the VM)",
        facts.blocked_reasons[0]);
  }
  return SelectBlocks(facts).status();
}

}  // namespace

absl::StatusOr<std::vector<MigratedBlock>> SelectBlocks(const VmFacts& facts) {
  std::vector<MigratedBlock> selected;
  for (const RamBlock& block : facts.blocks) {
    const MemoryBackend* backend = BackendOf(facts, block);
    if (backend == nullptr) {
      RETURN_IF_ERROR(CheckForeignBlock(facts, block));
      continue;
    }
    RETURN_IF_ERROR(CheckBackend(facts, *backend));
    selected.push_back({block, *backend});
  }
  if (selected.empty()) {
    return Refuse("the VM has no RAM in a memory-backend-file: {}", kBackendMend);
  }
  MemoryLayout layout;
  for (const MigratedBlock& one : selected) {
    layout.push_back({one.block.name, one.block.used_bytes, one.block.page_size_bytes});
  }
  if (absl::Status status = ValidateLayout(layout); !status.ok()) {
    return Refuse("Faultline cannot move RAM as QEMU describes it ('info ramblock'): {}",
                  MessageOf(status));
  }
  return selected;
}

bool GuestMayDiscard(const VmFacts& facts) {
  return std::any_of(facts.devices.begin(), facts.devices.end(), [](const VmDevice& device) {
    return device.type.starts_with("virtio-balloon") || device.type.starts_with("virtio-mem");
  });
}

bool HasDirectIo(const VmFacts& facts) {
  // SCSI pass-through hands the guest's pages to the device, and so does libblkio.
  static constexpr std::array<std::string_view, 2> kDirectDrivers = {"io_uring", "nvme-io_uring"};
  return facts.direct_nodes ||
         std::any_of(facts.devices.begin(), facts.devices.end(),
                     [](const VmDevice& device) {
                       return device.type == "scsi-block" || device.type == "scsi-generic";
                     }) ||
         std::any_of(facts.block_drivers.begin(), facts.block_drivers.end(),
                     [](const std::string& driver) {
                       return std::find(kDirectDrivers.begin(), kDirectDrivers.end(), driver) !=
                              kDirectDrivers.end();
                     });
}

std::string WhyUntrackable(const VmFacts& facts) {
  for (const VmDevice& device : facts.devices) {
    std::string_view who;
    if (device.type.starts_with("vhost-scsi")) who = "the host's SCSI target (vhost-scsi)";
    if (device.type.starts_with("pvrdma")) who = "RDMA hardware (pvrdma)";
    if (who.empty()) continue;
    return fmt::format(
        "device '{}' ({}) lets {} write the guest's memory, where no dirty tracking sees it: "
        "unplug it, or migrate with --mode postcopy",
        device.name, device.type, who);
  }
  return "";
}

absl::Status CheckFiles(const VmFacts& facts) {
  ASSIGN_OR_RETURN(std::vector<MigratedBlock> blocks, SelectBlocks(facts));
  for (const MigratedBlock& block : blocks) {
    RETURN_IF_ERROR(CheckFile(facts, block.backend));
    if (block.backend.file_system == FileSystem::kHugetlbfs && GuestMayDiscard(facts)) {
      return Refuse(
          "the VM has a balloon or virtio-mem and its RAM '{}' lies on hugetlbfs, where the kernel "
          "does not tell when the guest gives memory back: unplug the device, or put the RAM on "
          "tmpfs",
          block.backend.id);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSource(const VmFacts& facts) {
  RETURN_IF_ERROR(CheckNoMigration(facts));
  if (facts.status == "inmigrate") {
    return Refuse(
        "the source's QEMU waits for a migration itself (-incoming): give the monitor of "
        "the running VM");
  }
  if (facts.status == "postmigrate" && facts.migration_status == "completed") {
    return Refuse(
        "the VM has already been migrated away from this QEMU (its status is postmigrate): if it "
        "is nowhere else, put it back to work with 'cont' in its monitor first");
  }
  if (facts.status == "postmigrate") {
    // How QEMU 7.2 leaves a paused VM after a migration that was given up; it sends none from here.
    return Refuse(
        "the VM still stands paused from a migration that was given up (its status is "
        "postmigrate): let it run with 'cont' in its monitor (and 'stop' it again), then migrate");
  }
  static constexpr std::array<std::string_view, 3> kMovable = {"running", "paused", "prelaunch"};
  if (std::find(kMovable.begin(), kMovable.end(), facts.status) == kMovable.end()) {
    return Refuse(
        "the VM is neither running nor paused (its status is '{}'): bring it to one of "
        "both ('cont' or 'stop' in its monitor) and migrate again",
        facts.status);
  }
  return CheckVm(facts);
}

absl::Status CheckDestination(const VmFacts& facts) {
  if (facts.status != "inmigrate") {
    return Refuse(
        "the destination's QEMU does not wait for a migration (its status is '{}'): "
        "start it with -incoming defer",
        facts.status);
  }
  if (!facts.migration_status.empty() && facts.migration_status != "none") {
    return Refuse(
        "the destination's QEMU already takes a migration from elsewhere (query-migrate "
        "says '{}'): start it with -incoming defer, and give it to this command only",
        facts.migration_status);
  }
  RETURN_IF_ERROR(CheckVm(facts));
  ASSIGN_OR_RETURN(std::vector<MigratedBlock> blocks, SelectBlocks(facts));
  for (const MigratedBlock& block : blocks) {
    if (facts.locked_bytes < block.block.used_bytes) continue;
    return Refuse(
        "the destination's QEMU has its memory locked (mem-lock=on), which fills the "
        "guest's RAM before it could be missing: start it without -overcommit mem-lock=on");
  }
  return absl::OkStatus();
}

}  // namespace faultline
