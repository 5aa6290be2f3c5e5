// `faultline receive`: takes a VM over.
#ifndef FAULTLINE_CLI_RECEIVE_COMMAND_H_
#define FAULTLINE_CLI_RECEIVE_COMMAND_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/command_parts.h"
#include "cli/exit_status.h"
#include "cli/session_record.h"

namespace faultline {

// As given on the command line: either qmp and hook, or qemu_command.
struct ReceiveCommand {
  std::string listen_uri;
  std::string qmp;
  std::string hook;
  std::string hook_library;
  std::string resume_id;  // the first digits; empty: the only one
  bool resume = false;
  std::string run_directory;
  std::vector<std::string> qemu_command;  // what stood after "--"
  CommonOptions common;
  std::optional<bool> read_around;  // none: on
  bool has_qemu_command = false;
  bool insecure = false;
  bool huge_pages = false;
  TlsChoice tls;
  bool json = false;
};

// `started_us`: when the command started, on MonotonicUs's clock.
ExitStatus RunReceive(const CommandParts& parts, const ReceiveCommand& command,
                      uint64_t started_us);

}  // namespace faultline

#endif  // FAULTLINE_CLI_RECEIVE_COMMAND_H_
