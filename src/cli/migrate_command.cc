#include "cli/migrate_command.h"

#include <fmt/format.h>

#include "base/text.h"
#include "cli/run_directory.h"
#include "cli/session_host.h"
#include "cli/usage.h"

namespace faultline {
namespace {

absl::StatusOr<Compression> ParseCompression(const std::string& text) {
  if (text.empty() || text == "auto") return Compression::kAuto;
  if (text == "off") return Compression::kOff;
  if (text == "lz4") return Compression::kLz4;
  if (text == "zstd") return Compression::kZstd;
  return absl::InvalidArgumentError(
      fmt::format("--compress: '{}' is not known; give auto, off, lz4 or zstd", text));
}

absl::StatusOr<MigrationMode> ParseMode(const std::string& text) {
  for (MigrationMode mode :
       {MigrationMode::kPostCopy, MigrationMode::kHybrid, MigrationMode::kPreCopy}) {
    if (text == ModeName(mode)) return mode;
  }
  return absl::InvalidArgumentError(
      fmt::format("--mode: '{}' is not known; give postcopy, hybrid or precopy", text));
}

absl::StatusOr<PreCopyBudgets> ParseBudgets(const MigrateCommand& command) {
  PreCopyBudgets budgets;
  if (command.precopy_rounds.has_value()) budgets.rounds_max = *command.precopy_rounds;
  if (!command.precopy_time.empty()) {
    absl::StatusOr<int64_t> time_us = ParseDurationUs(command.precopy_time);
    if (!time_us.ok()) return Annotate(time_us.status(), "--precopy-time");
    budgets.time_max_us = *time_us;
  }
  if (!command.downtime_limit.empty()) {
    absl::StatusOr<int64_t> downtime_us = ParseDurationUs(command.downtime_limit);
    if (!downtime_us.ok()) return Annotate(downtime_us.status(), "--downtime-limit");
    budgets.downtime_max_us = *downtime_us;
  }
  budgets.throttle = command.throttle;
  return budgets;
}

// What the command was told, or, where it takes a migration up again, the one before.
absl::StatusOr<SessionRecord> ToRecord(const MigrateCommand& command, const Unfinished* resume) {
  SessionRecord record;
  if (resume != nullptr) record = resume->record;
  if (!command.to_uri.empty()) record.endpoint = command.to_uri;
  if (record.endpoint.empty()) {
    return absl::InvalidArgumentError("--to is required: where 'faultline receive' listens");
  }
  RETURN_IF_ERROR(CheckUri(record.endpoint, "--to"));
  if (!command.qmp.empty()) {
    ASSIGN_OR_RETURN(record.qmp_path, ParseSocketPath(command.qmp, "--qmp"));
  }
  if (record.qmp_path.empty()) {
    return absl::InvalidArgumentError("--qmp is required: the monitor of the QEMU with the VM");
  }
  if (!command.hook.empty()) {
    ASSIGN_OR_RETURN(record.hook_path, ParseSocketPath(command.hook, "--hook"));
  }
  if (!command.mode.empty()) record.mode = command.mode;
  if (!command.bandwidth.empty()) {
    absl::StatusOr<uint64_t> rate = ParseRate(command.bandwidth);
    if (!rate.ok()) return Annotate(rate.status(), "--bandwidth");
    record.bandwidth_bytes_per_second = *rate;
  }
  if (!command.compress.empty()) record.compress = command.compress;
  if (!command.push_order.empty()) record.push_order = command.push_order;
  RETURN_IF_ERROR(TakeOptions(command.common, &record));
  record.insecure = record.insecure || command.insecure;
  if (command.tls.given()) record.tls = AbsolutePaths(command.tls);
  record.quit_source = record.quit_source || command.quit_source;
  return record;
}

absl::StatusOr<MigrateOptions> ToOptions(const MigrateCommand& command, const SessionRecord& record,
                                         const Unfinished* resume) {
  MigrateOptions options;
  ASSIGN_OR_RETURN(options.mode, ParseMode(record.mode));
  ASSIGN_OR_RETURN(options.budgets, ParseBudgets(command));
  if (options.budgets.throttle && options.mode != MigrationMode::kPreCopy) {
    return absl::InvalidArgumentError(fmt::format(
        "--throttle slows the VM until it can be moved by pre-copy alone: it goes with --mode "
        "precopy, not with {}",
        record.mode));
  }
  options.hook_path = record.hook_path;
  if (options.mode != MigrationMode::kPostCopy && options.hook_path.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "--mode {} needs --hook: the socket of faultline-qemu.so in the QEMU that runs the VM "
        "(-plugin faultline-qemu.so,socket=PATH), which tracks what the VM writes; --mode postcopy "
        "needs none",
        record.mode));
  }
  options.to_uri = record.endpoint;
  options.qmp_path = record.qmp_path;
  options.bandwidth_bytes_per_second = record.bandwidth_bytes_per_second;
  ASSIGN_OR_RETURN(options.compression, ParseCompression(record.compress));
  options.push_order = record.push_order;
  options.poll_us = record.poll_us;
  const KeptMigration* kept = resume != nullptr ? &*resume->journal.kept : nullptr;
  ASSIGN_OR_RETURN(options.integrity, ParseIntegrity(command.common.integrity, kept));
  options.insecure = record.insecure;
  options.tls = record.tls;
  options.rdma = record.rdma;
  options.quit_source = record.quit_source;
  options.confine = record.confine;
  options.recovery_timeout_us = record.recovery_timeout_us;
  return options;
}

ExitStatus Migrate(const CommandParts& parts, const MigrateCommand& command, uint64_t started_us,
                   const Unfinished* resume) {
  absl::StatusOr<SessionRecord> record = ToRecord(command, resume);
  if (!record.ok()) return UsageError(record.status(), "migrate");
  absl::StatusOr<MigrateOptions> options = ToOptions(command, *record, resume);
  if (!options.ok()) return UsageError(options.status(), "migrate");
  if (resume == nullptr) {
    absl::StatusOr<RunDirectory> directory = RunDirectory::Open(command.run_directory);
    // One that cannot be used is told with all that belongs to a command that fails.
    absl::Status free =
        directory.ok() ? CheckNoneUnfinished(*directory, record->qmp_path) : absl::OkStatus();
    if (!free.ok()) return UsageError(free, "migrate");
  }
  HostSettings settings;
  settings.role = Role::kSource;
  settings.record = *record;
  settings.resume = resume;
  settings.run_directory = command.run_directory;
  settings.json = command.json;
  settings.started_us = started_us;
  SessionHost host(settings);
  if (absl::Status opened = host.Open(parts); !opened.ok()) return host.Fail(opened);
  options->migration_id = host.migration_id();
  if (resume != nullptr) {
    options->resume = resume->journal.kept;
  } else {
    options->journal_path = host.journal_path();
  }
  absl::StatusOr<std::unique_ptr<Session>> session = parts.make_migrate(*options, host.journal());
  if (!session.ok()) {
    return absl::IsInvalidArgument(session.status()) ? host.Refuse(session.status())
                                                     : host.Fail(session.status());
  }
  SessionResult result = host.Run(session->get());
  return host.Finish(result);
}

}  // namespace

ExitStatus RunMigrate(const CommandParts& parts, const MigrateCommand& command,
                      uint64_t started_us) {
  if (!command.resume) return Migrate(parts, command, started_us, nullptr);
  absl::StatusOr<Unfinished> unfinished =
      FindInRunDirectory(command.run_directory, Role::kSource, command.resume_id);
  if (!unfinished.ok()) return UsageError(unfinished.status(), "migrate");
  return Migrate(parts, command, started_us, &*unfinished);
}

}  // namespace faultline
