// What a destination QEMU's command line needs added. Pure.
#ifndef FAULTLINE_CLI_QEMU_ARGUMENTS_H_
#define FAULTLINE_CLI_QEMU_ARGUMENTS_H_

#include <string>
#include <vector>

#include "base/status.h"

namespace faultline {

struct QemuPlan {
  std::vector<std::string> command;
  std::vector<std::string> environment;  // "NAME=VALUE", added
};

struct QemuPlanInput {
  std::vector<std::string> command;  // as the user gave it
  std::string help_text;             // what its --help printed
  std::string hook_library;
  std::string qmp_path;
  std::string hook_path;
  std::string preload;  // this process's own LD_PRELOAD
};

// Checks the command alone, before anything is started. InvalidArgument, with what to change, for a
// command that cannot be a migration's destination.
absl::Status CheckQemuCommand(const std::vector<std::string>& command);

// Adds the monitor, the hook and `-incoming defer`. InvalidArgument as above, or for a program that
// is no QEMU.
absl::StatusOr<QemuPlan> PlanQemu(const QemuPlanInput& input);

}  // namespace faultline

#endif  // FAULTLINE_CLI_QEMU_ARGUMENTS_H_
