#include "cli/command_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>

#include "base/monotonic_time.h"
#include "cli/abandon_command.h"
#include "cli/cancel_command.h"
#include "cli/common_options.h"
#include "cli/doctor_command.h"
#include "cli/exit_status.h"
#include "cli/migrate_command.h"
#include "cli/migrate_options.h"
#include "cli/receive_command.h"
#include "cli/reclaim_command.h"
#include "cli/session_host.h"
#include "cli/status_command.h"
#include "cli/usage.h"

namespace faultline {
namespace {

// All that the options can fill in.
struct ParsedOptions {
  MigrateCommand migrate;
  ReceiveCommand receive;
  DoctorCommand doctor;
  ReclaimCommand reclaim;
  AbandonCommand abandon;
  std::vector<std::string> guardian;
  std::string run_directory;
  std::string id;
  bool json = false;
};

CLI::App* AddReceive(CLI::App* app, ReceiveCommand* options) {
  CLI::App* command = app->add_subcommand(
      "receive",
      "Take a VM over from another host: into a QEMU that waits (--qmp and --hook), or into one "
      "that is started (-- qemu-system-x86_64 ARGS...)");
  command
      ->add_option("--listen", options->listen_uri,
                   "where to wait for the source; port 0: any. RDMA: rdma://ADDR:PORT, several "
                   "rails with commas between")
      ->type_name("tcp://ADDR:PORT");
  command->add_option("--qmp", options->qmp, "the QMP monitor of a QEMU with '-incoming defer'")
      ->type_name("unix:PATH");
  command->add_option("--hook", options->hook, "the socket of the hook in that QEMU")
      ->type_name("unix:PATH");
  AddPoll(command, &options->common.poll_us);
  AddRdma(command, &options->common.rdma);
  AddIntegrity(command, &options->common.integrity);
  AddTls(command, &options->tls);
  command->add_flag("--insecure", options->insecure,
                    "plain TCP beyond loopback, without TLS: whoever can connect writes the VM's "
                    "memory");
  command
      ->add_option("--read-around", options->read_around,
                   "on: a fault brings its page's neighbors too, as many as a fast link carries in "
                   "some microseconds; off: the page alone")
      ->check(CLI::IsMember({"on", "off"}))
      ->type_name("on|off");
  command->add_flag("--huge-pages", options->huge_pages,
                    "when all memory has arrived, make it huge pages again: the VM gets as fast as "
                    "before, for some seconds of a processor and short stalls of what is in work; "
                    "the VM's RAM needs align=2M. Ctrl-C ends it at once");
  command->add_flag("--json", options->json,
                    "one JSON object a line on stdout, the first one says the port");
  AddSandbox(command, &options->common.sandbox);
  AddRecoveryTimeout(command, &options->common.recovery_timeout);
  AddResume(command, "'faultline receive'", &options->resume_id, &options->resume);
  AddHookLibrary(command, &options->hook_library);
  AddRunDirectory(command, &options->run_directory);
  command->footer(
      "After '--' stands the command line of the destination QEMU, the same as the source's but\n"
      "for its own RAM file; -incoming defer, a monitor and the hook are added. That QEMU lives "
      "on\n"
      "when this command ends with the VM here, and is ended when the VM stays on the source.\n"
      "Exit status: 0 done, 1 failed with the VM safe on the source, 2 bad usage, 3 failed with\n"
      "the VM here, paused or recoverable.");
  return command;
}

CLI::App* AddDoctor(CLI::App* app, DoctorCommand* options) {
  CLI::App* command =
      app->add_subcommand("doctor", "Say what this host or a VM can do, and what mends the rest");
  command->add_option("--vm", options->vm, "also ask the VM behind this QMP monitor")
      ->type_name("unix:PATH");
  command->add_option("--qemu", options->qemu, "the QEMU to look at (default: qemu-system-x86_64)")
      ->type_name("PROGRAM");
  AddHookLibrary(command, &options->hook_library);
  command->add_option("--tls-dir", options->tls_directory, "the certificates to look at")
      ->type_name("DIR");
  command->add_flag("--json", options->json, "one JSON object a line on stdout");
  command->footer("Exit status: 0 if post-copy is possible, 1 if not, 2 bad usage.");
  return command;
}

CLI::App* AddStatus(CLI::App* app, ParsedOptions* options) {
  CLI::App* command = app->add_subcommand("status", "List this user's running migrations here");
  command->add_option("id", options->id, "one migration: its id, or the first digits of it")
      ->type_name("ID");
  command->add_flag("--json", options->json, "one JSON object a line on stdout");
  AddRunDirectory(command, &options->run_directory);
  return command;
}

CLI::App* AddCancel(CLI::App* app, ParsedOptions* options) {
  CLI::App* command = app->add_subcommand("cancel", "Stop a running migration before its handover");
  command->add_option("id", options->id, "its id, or the first digits of it")
      ->required()
      ->type_name("ID");
  AddRunDirectory(command, &options->run_directory);
  return command;
}

CLI::App* AddPostCopyNow(CLI::App* app, ParsedOptions* options) {
  CLI::App* command = app->add_subcommand(
      "postcopy-now", "On the source: send nothing more before the switch, hand the VM over now");
  command->add_option("id", options->id, "the migration: its id, or the first digits of it")
      ->required()
      ->type_name("ID");
  AddRunDirectory(command, &options->run_directory);
  return command;
}

CLI::App* AddReclaim(CLI::App* app, ReclaimCommand* options) {
  CLI::App* command = app->add_subcommand(
      "reclaim", "On the source: take a VM back whose destination was lost after the handover");
  command->add_option("id", options->id, "the migration: its id, or the first digits of it")
      ->type_name("ID");
  command->add_flag("--i-know-the-destination-is-dead", options->destination_is_dead,
                    "do it; without this the command says what it means, and does nothing");
  command->add_option("--qmp", options->qmp, "the source QEMU's monitor, if it is another one now")
      ->type_name("unix:PATH");
  command->add_flag("--json", options->json, "one JSON object on stdout");
  AddRunDirectory(command, &options->run_directory);
  command->footer(
      "Exit status: 0 done, 1 the VM is this host's but does not run, 2 nothing was done, 3 "
      "failed\n"
      "and the VM is the destination's as before.");
  return command;
}

CLI::App* AddAbandon(CLI::App* app, AbandonCommand* options) {
  CLI::App* command = app->add_subcommand(
      "abandon", "On the destination: save what is left of a VM whose source was lost");
  command->add_option("id", options->id, "the migration: its id, or the first digits of it")
      ->type_name("ID");
  command
      ->add_option("--dump", options->dump_path,
                   "copy the memory that is here into this new file, and which pages are missing "
                   "into FILE.json; the VM stays as it is")
      ->type_name("FILE");
  command->add_flag("--poison", options->poison,
                    "make each missing page an error for whoever touches it, for good, and let the "
                    "VM run: says first what that means here");
  command->add_flag("--i-know-the-source-is-dead", options->source_is_dead, "do --poison");
  command->add_option("--hook", options->hook, "the hook's socket, if it is another one now")
      ->type_name("unix:PATH");
  command->add_flag("--json", options->json, "one JSON object on stdout");
  AddRunDirectory(command, &options->run_directory);
  command->footer("Exit status: 0 done, 1 failed, 2 nothing was done.");
  return command;
}

// `migrate` starts itself again under this name; nobody else has a use for it.
CLI::App* AddGuardian(CLI::App* app, ParsedOptions* options) {
  CLI::App* command = app->add_subcommand("guardian", "")->group("");
  command->add_option("arguments", options->guardian)->expected(0, -1);
  return command;
}

ExitStatus RunGuardianCommand(const CommandParts& parts,
                              const std::vector<std::string>& arguments) {
  absl::Status status = parts.run_guardian(arguments);
  if (status.ok()) return ExitStatus::kDone;
  return absl::IsInvalidArgument(status) ? UsageError(status, "") : CommandError(status);
}

// What follows the first "--" is the destination QEMU's command line.
struct SplitArguments {
  std::vector<std::string> own;
  std::vector<std::string> qemu;
  bool has_qemu = false;
};

SplitArguments Split(const std::vector<std::string>& arguments) {
  auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  SplitArguments split;
  split.own.assign(arguments.begin(), dashes);
  split.has_qemu = dashes != arguments.end();
  if (split.has_qemu) split.qemu.assign(dashes + 1, arguments.end());
  return split;
}

std::string ChosenName(const CLI::App& app) {
  std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? "" : chosen.front()->get_name();
}

// CLI11 says of an unknown first word only that a subcommand is missing.
ExitStatus ParseFailure(const CLI::App& app, const CLI::ParseError& error,
                        const std::vector<std::string>& arguments) {
  std::string chosen = ChosenName(app);
  if (!chosen.empty() || arguments.empty() || arguments[0].rfind('-', 0) == 0) {
    return UsageError(absl::InvalidArgumentError(error.what()), chosen);
  }
  bool later = arguments[0] == "set";
  return UsageError(
      absl::InvalidArgumentError(fmt::format(
          "{} '{}'", later ? "not in this release:" : "there is no subcommand", arguments[0])),
      "");
}

ExitStatus ParseAndRun(const CommandParts& parts, const std::vector<std::string>& arguments) {
  uint64_t started_us = static_cast<uint64_t>(MonotonicUs());
  ParsedOptions options;
  CLI::App app("Moves running QEMU/KVM virtual machines to another host by post-copy.",
               "faultline");
  app.set_version_flag("--version", std::string("faultline ") + FAULTLINE_VERSION);
  app.require_subcommand(1);
  CLI::App* receive = AddReceive(&app, &options.receive);
  CLI::App* migrate = AddMigrate(&app, &options.migrate);
  CLI::App* status = AddStatus(&app, &options);
  CLI::App* cancel = AddCancel(&app, &options);
  CLI::App* post_copy_now = AddPostCopyNow(&app, &options);
  CLI::App* reclaim = AddReclaim(&app, &options.reclaim);
  CLI::App* abandon = AddAbandon(&app, &options.abandon);
  CLI::App* doctor = AddDoctor(&app, &options.doctor);
  CLI::App* guardian = AddGuardian(&app, &options);

  SplitArguments split = Split(arguments);
  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(split.own.rbegin(), split.own.rend()));
  } catch (const CLI::CallForHelp&) {
    return WriteOut(app.help(), ExitStatus::kDone);
  } catch (const CLI::CallForVersion& version) {
    return WriteOut(std::string(version.what()) + "\n", ExitStatus::kDone);
  } catch (const CLI::ParseError& error) {
    return ParseFailure(app, error, split.own);
  }
  if (split.has_qemu && !receive->parsed()) {
    return UsageError(
        absl::InvalidArgumentError("only 'faultline receive' takes a command after '--'"),
        ChosenName(app));
  }
  if (receive->parsed()) {
    options.receive.qemu_command = std::move(split.qemu);
    options.receive.has_qemu_command = split.has_qemu;
    return RunReceive(parts, options.receive, started_us);
  }
  if (migrate->parsed()) return RunMigrate(parts, options.migrate, started_us);
  if (status->parsed()) {
    return RunStatus(options.run_directory, parts.state_directory, options.id, options.json);
  }
  if (cancel->parsed()) return RunCancel(options.run_directory, options.id);
  if (post_copy_now->parsed()) return RunPostCopyNow(options.run_directory, options.id);
  if (reclaim->parsed()) return RunReclaim(parts, options.reclaim);
  if (abandon->parsed()) return RunAbandon(parts, options.abandon);
  if (doctor->parsed()) return RunDoctor(parts, options.doctor);
  return guardian->parsed() ? RunGuardianCommand(parts, options.guardian) : ExitStatus::kUsage;
}

// An exception that left a thread. Whether the handover was over cannot be told from here, so the
// status says the worse case: look before anything is done to either QEMU.
[[noreturn]] void EndOnUncaught() {
  static constexpr char kText[] =
      "faultline: broken off by an internal error; look at both QEMUs before doing anything "
      "('faultline status', docs/operators-guide.md)\n";
  (void)!write(STDERR_FILENO, kText, sizeof(kText) - 1);
  _exit(static_cast<int>(ExitStatus::kPastHandover));
}

}  // namespace

int RunCommandLine(const CommandParts& parts, const std::vector<std::string>& arguments) {
  std::set_terminate(EndOnUncaught);
  signal(SIGPIPE, SIG_IGN);
  try {
    return static_cast<int>(ParseAndRun(parts, arguments));
  } catch (const std::exception& error) {
    // A running session's exceptions end in SessionHost: here no VM was touched.
    return static_cast<int>(
        CommandError(absl::InternalError(fmt::format("internal error: {}", error.what()))));
  }
}

}  // namespace faultline
