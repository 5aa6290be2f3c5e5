#include "assembly/sessions.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "assembly/confinement.h"
#include "assembly/endpoint.h"
#include "assembly/parts.h"
#include "memory/dirty_tracker_factories.h"
#include "memory/hook_armer.h"
#include "memory/uffd_guest_memory_factory.h"
#include "vmm/qemu/qemu_destination_vmm.h"
#include "vmm/qemu/qemu_source_vmm.h"
#include "vmm/qemu/resumed_destination_vmm.h"
#include "vmm/qemu/resumed_source_vmm.h"

namespace faultline {
namespace {

constexpr int kHookTimeoutMs = 5000;

absl::StatusOr<MigrationId> ParseMigrationId(const std::string& text) {
  MigrationId id{};
  if (text.size() != id.size() * 2) {
    return absl::InvalidArgumentError(
        fmt::format("migration id '{}' is not {} hexadecimal digits", text, id.size() * 2));
  }
  for (size_t i = 0; i < id.size(); ++i) {
    const char* first = text.data() + i * 2;
    if (std::from_chars(first, first + 2, id[i], 16).ptr != first + 2) {
      return absl::InvalidArgumentError(fmt::format("migration id '{}' is not hexadecimal", text));
    }
  }
  return id;
}

// Guest memory of a QEMU, armed by the hook inside it.
class HookMemoryFactory : public GuestMemoryFactory {
 public:
  HookMemoryFactory(std::string hook_path, FdPoller* poller)
      : armer_(std::move(hook_path), kHookTimeoutMs),
        // The driver has checked that QEMU waits for an incoming migration.
        factory_(&armer_, poller, {.may_punch_leftovers = true}) {}

  absl::Status Check(const VmDescription& vm) override { return factory_.Check(vm); }
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& vm) override {
    return factory_.Arm(vm);
  }
  absl::StatusOr<std::unique_ptr<GuestMemory>> TakeOver(const VmDescription& vm) override {
    return factory_.TakeOver(vm);
  }

 private:
  HookArmer armer_;
  UffdGuestMemoryFactory factory_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> MakeMigrateSession(const MigrateOptions& options,
                                                            Journal* journal) {
  SourceParts parts;
  ASSIGN_OR_RETURN(parts.id, ParseMigrationId(options.migration_id));
  parts.resume = options.resume;
  parts.vmm = [options](Executor& control) -> std::unique_ptr<SourceVmm> {
    std::function<void()> at_handover =
        ConfinementAtHandover(options.confine && !IsRdmaUri(options.to_uri), &control);
    if (options.resume.has_value()) {
      return std::make_unique<ResumedSourceVmm>(options.qmp_path, options.resume->regions,
                                                std::move(at_handover), &control);
    }
    return std::make_unique<QemuSourceVmm>(QemuSourceOptions{.qmp_path = options.qmp_path,
                                                             .journal_path = options.journal_path,
                                                             .at_handover = std::move(at_handover)},
                                           &control);
  };
  parts.uri = options.to_uri;
  parts.insecure = options.insecure;
  parts.tls = options.tls;
  parts.rdma = options.rdma;
  parts.bandwidth = options.bandwidth_bytes_per_second;
  parts.compression = options.compression;
  parts.quit_source = options.quit_source;
  parts.connect_timeout_us = options.connect_timeout_ms * 1000;
  parts.poll_us = options.poll_us;
  parts.push_order = options.push_order;
  parts.integrity = options.integrity;
  parts.mode = options.mode;
  parts.budgets = options.budgets;
  if (options.mode != MigrationMode::kPostCopy) {
    parts.tracker = std::make_unique<HookDirtyTrackerFactory>(options.hook_path, kHookTimeoutMs);
  }
  parts.recovery_timeout_us = options.recovery_timeout_us;
  parts.journal = journal;
  parts.confine = options.confine;
  return MakeSourceSession(std::move(parts));
}

absl::StatusOr<std::unique_ptr<Session>> MakeReceiveSession(const ReceiveOptions& options,
                                                            Journal* journal) {
  DestinationParts parts;
  parts.resume = options.resume;
  parts.resume_committed = options.resume_committed;
  parts.resume_whole = options.resume_whole;
  parts.resume_released = options.resume_released;
  parts.vmm = [options](Executor& control) -> std::unique_ptr<DestinationVmm> {
    std::function<void()> at_handover =
        ConfinementAtHandover(options.confine && !IsRdmaUri(options.listen_uri), &control);
    if (options.resume.has_value()) {
      return std::make_unique<ResumedDestinationVmm>(options.qmp_path, options.resume->regions,
                                                     std::move(at_handover), &control);
    }
    return std::make_unique<QemuDestinationVmm>(
        QemuDestinationOptions{.qmp_path = options.qmp_path,
                               .journal_path = [options] { return options.journal_path; },
                               .at_handover = std::move(at_handover)},
        &control);
  };
  parts.memory = [options](Executor&, FdPoller& poller) {
    return std::make_unique<HookMemoryFactory>(options.hook_path, &poller);
  };
  parts.uri = options.listen_uri;
  parts.insecure = options.insecure;
  parts.poll_us = options.poll_us;
  parts.read_around = options.read_around;
  parts.huge_pages = options.huge_pages;
  parts.integrity = options.integrity;
  parts.tls = options.tls;
  parts.rdma = options.rdma;
  parts.recovery_timeout_us = options.recovery_timeout_us;
  parts.journal = journal;
  parts.confine = options.confine;
  return MakeDestinationSession(std::move(parts));
}

}  // namespace faultline
