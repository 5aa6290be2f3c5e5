#include "cli/migrate_command.h"

#include <fmt/format.h>

#include "base/text.h"
#include "cli/run_directory.h"
#include "cli/session_host.h"
#include "cli/usage.h"

namespace faultline {
namespace {

absl::StatusOr<Compression> ParseCompression(const std::string& text) {
  if (text == "auto") return Compression::kAuto;
  if (text == "off") return Compression::kOff;
  if (text == "lz4") return Compression::kLz4;
  return absl::InvalidArgumentError(
      fmt::format("--compress: '{}' is not known; give auto, off or lz4", text));
}

absl::StatusOr<MigrateOptions> ToOptions(const MigrateCommand& command) {
  MigrateOptions options;
  if (command.mode != "postcopy") {
    return absl::InvalidArgumentError(
        fmt::format("--mode {} is not in this release: leave --mode out, or give --mode postcopy",
                    command.mode));
  }
  RETURN_IF_ERROR(CheckUri(command.to_uri, "--to"));
  options.to_uri = command.to_uri;
  ASSIGN_OR_RETURN(options.qmp_path, ParseSocketPath(command.qmp, "--qmp"));
  if (!command.hook.empty()) {
    // Post-copy needs no hook on the source; a wrong path is told all the same.
    RETURN_IF_ERROR(ParseSocketPath(command.hook, "--hook").status());
  }
  if (!command.bandwidth.empty()) {
    absl::StatusOr<uint64_t> rate = ParseRate(command.bandwidth);
    if (!rate.ok()) return Annotate(rate.status(), "--bandwidth");
    options.bandwidth_bytes_per_second = *rate;
  }
  ASSIGN_OR_RETURN(options.compression, ParseCompression(command.compress));
  options.insecure = command.insecure;
  ASSIGN_OR_RETURN(options.recovery_timeout_us, ParseRecoveryTimeout(command.recovery_timeout));
  options.quit_source = command.quit_source;
  return options;
}

}  // namespace

ExitStatus RunMigrate(const CommandParts& parts, const MigrateCommand& command,
                      uint64_t started_us) {
  absl::StatusOr<MigrateOptions> options = ToOptions(command);
  if (!options.ok()) return UsageError(options.status(), "migrate");
  HostSettings settings;
  settings.role = Role::kSource;
  settings.endpoint = command.to_uri;
  settings.run_directory = command.run_directory;
  settings.json = command.json;
  settings.started_us = started_us;
  SessionHost host(settings);
  if (absl::Status opened = host.Open(parts); !opened.ok()) return host.Fail(opened);
  options->migration_id = host.migration_id();
  options->journal_path = host.journal_path();
  absl::StatusOr<std::unique_ptr<Session>> session = parts.make_migrate(*options, host.journal());
  if (!session.ok()) {
    return absl::IsInvalidArgument(session.status()) ? host.Refuse(session.status())
                                                     : host.Fail(session.status());
  }
  SessionResult result = host.Run(session->get());
  return host.Finish(result);
}

}  // namespace faultline
