// `faultline migrate`: gives a VM away.
#ifndef FAULTLINE_CLI_MIGRATE_COMMAND_H_
#define FAULTLINE_CLI_MIGRATE_COMMAND_H_

#include <cstdint>
#include <optional>
#include <string>

#include "cli/command_parts.h"
#include "cli/exit_status.h"
#include "cli/session_record.h"

namespace faultline {

// As given on the command line.
struct MigrateCommand {
  std::string to_uri;
  std::string qmp;
  std::string hook;
  std::string mode;  // empty: postcopy
  std::optional<uint32_t> precopy_rounds;
  std::string precopy_time;  // empty: the default, and so on
  std::string downtime_limit;
  bool throttle = false;
  std::string bandwidth;
  std::string compress;    // empty: auto
  std::string push_order;  // empty: the default
  std::string resume_id;   // the first digits; empty: the only one
  bool resume = false;
  std::string run_directory;
  CommonOptions common;
  bool insecure = false;
  TlsChoice tls;
  bool quit_source = false;
  bool json = false;
};

// `started_us`: when the command started, on MonotonicUs's clock.
ExitStatus RunMigrate(const CommandParts& parts, const MigrateCommand& command,
                      uint64_t started_us);

}  // namespace faultline

#endif  // FAULTLINE_CLI_MIGRATE_COMMAND_H_
