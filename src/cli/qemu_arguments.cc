#include "cli/qemu_arguments.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>

namespace faultline {
namespace {

// QEMU takes "-name" and "--name" alike.
bool IsOption(const std::string& argument, std::string_view name) {
  std::string_view text = argument;
  if (text.rfind("--", 0) == 0) text.remove_prefix(1);
  return text == name;
}

// The argument after `name`: empty if it is the last one, none if `name` is not there.
std::optional<std::string> ValueOf(const std::vector<std::string>& command, std::string_view name) {
  for (size_t i = 1; i < command.size(); ++i) {
    if (IsOption(command[i], name)) return i + 1 < command.size() ? command[i + 1] : "";
  }
  return std::nullopt;
}

// In QEMU's option lists a comma is written twice.
std::string Escaped(const std::string& path) {
  std::string result;
  for (char c : path) result.append(c == ',' ? 2 : 1, c);
  return result;
}

}  // namespace

absl::Status CheckQemuCommand(const std::vector<std::string>& command) {
  if (command.empty() || command[0].empty()) {
    return absl::InvalidArgumentError(
        "no program after '--': give the destination QEMU's whole command line there");
  }
  std::optional<std::string> incoming = ValueOf(command, "-incoming");
  if (incoming.has_value() && *incoming != "defer") {
    return absl::InvalidArgumentError(fmt::format(
        "the QEMU command has '-incoming {}': Faultline carries QEMU's stream itself, so leave "
        "-incoming out, or make it '-incoming defer'",
        *incoming));
  }
  if (ValueOf(command, "-daemonize").has_value()) {
    return absl::InvalidArgumentError(
        "the QEMU command has -daemonize: leave it out, QEMU is started in the background and "
        "outlives this command anyway");
  }
  for (size_t i = 1; i < command.size(); ++i) {
    if (IsOption(command[i - 1], "-plugin") &&
        command[i].find("faultline-qemu.so") != std::string::npos) {
      return absl::InvalidArgumentError(
          "the QEMU command loads faultline-qemu.so itself: leave that -plugin out, it is added "
          "(or start QEMU yourself and use --qmp and --hook)");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<QemuPlan> PlanQemu(const QemuPlanInput& input) {
  RETURN_IF_ERROR(CheckQemuCommand(input.command));
  if (input.help_text.find("-incoming") == std::string::npos) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is no QEMU system emulator: its --help does not name -incoming; give "
                    "qemu-system-x86_64 or a script that passes its arguments on to it",
                    input.command[0]));
  }
  QemuPlan plan;
  plan.command = input.command;
  auto add = [&plan](const std::string& option, const std::string& value) {
    plan.command.push_back(option);
    plan.command.push_back(value);
  };
  if (!ValueOf(input.command, "-incoming").has_value()) add("-incoming", "defer");
  add("-qmp", fmt::format("unix:{},server=on,wait=off", Escaped(input.qmp_path)));
  if (input.help_text.find("\n-plugin ") != std::string::npos) {
    add("-plugin",
        fmt::format("{},socket={}", Escaped(input.hook_library), Escaped(input.hook_path)));
  } else {
    std::string preload = input.hook_library;
    if (!input.preload.empty()) preload += ":" + input.preload;
    plan.environment = {"LD_PRELOAD=" + preload, "FAULTLINE_HOOK_SOCKET=" + input.hook_path};
  }
  return plan;
}

}  // namespace faultline
