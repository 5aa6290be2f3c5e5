#include "cli/migrate_options.h"

#include <CLI/CLI.hpp>

#include "cli/common_options.h"

namespace faultline {
namespace {

// What is sent before the switch.
void AddModes(CLI::App* command, MigrateCommand* options) {
  command
      ->add_option("--hook", options->hook,
                   "the socket of the hook in that QEMU, for the modes that send memory before the "
                   "switch; post-copy needs none here")
      ->type_name("unix:PATH");
  command
      ->add_option(
          "--mode", options->mode,
          "postcopy (default; the VM moves at once, its memory follows), hybrid (memory is "
          "sent while the VM runs here for as long as that pays, the rest follows) or "
          "precopy (until what is left is small; where it does not get small, it follows)")
      ->check(CLI::IsMember({"postcopy", "hybrid", "precopy"}))
      ->type_name("MODE");
  command
      ->add_option("--precopy-rounds", options->precopy_rounds,
                   "hybrid, precopy: at most so many rounds (default 30)")
      ->check(CLI::Range(uint32_t{1}, uint32_t{1000}))
      ->type_name("COUNT");
  command
      ->add_option("--precopy-time", options->precopy_time,
                   "hybrid, precopy: for at most so long (default 10min): 90s, 10min, 2h")
      ->type_name("TIME");
  command
      ->add_option("--downtime-limit", options->downtime_limit,
                   "precopy: switch when what is left can be sent within this (default 300ms)")
      ->type_name("TIME");
  command->add_flag("--throttle", options->throttle,
                    "precopy: where what is left does not shrink, let the VM stand still for 20% "
                    "of the time, then 30% and so on, up to 90%, until it does");
}

}  // namespace

CLI::App* AddMigrate(CLI::App* app, MigrateCommand* options) {
  CLI::App* command = app->add_subcommand("migrate", "Give a running VM to another host");
  command
      ->add_option("--to", options->to_uri,
                   "where 'faultline receive' listens. RDMA: rdma://HOST:PORT, several rails with "
                   "commas between")
      ->type_name("tcp://HOST:PORT");
  command->add_option("--qmp", options->qmp, "the QMP monitor of the QEMU that runs the VM")
      ->type_name("unix:PATH");
  AddModes(command, options);
  command
      ->add_option("--bandwidth", options->bandwidth,
                   "limit of the background transfer: bytes a second (500M, 100MiB) or bits "
                   "(1Gbit); pages that the VM waits for are never held back")
      ->type_name("RATE");
  command
      ->add_option("--compress", options->compress,
                   "pack the background transfer: auto (default; where the link is the limit and "
                   "the memory packs, by what packs best on that link), off, or always lz4 or zstd")
      ->type_name("auto|off|lz4|zstd");
  command
      ->add_option("--push-order", options->push_order,
                   "what is sent first after the switch: hot-first (default; what lies around the "
                   "pages that the VM needed last, then what it wrote last), fault-around (without "
                   "the latter) or plain (from the first page to the last)")
      ->type_name("NAME");
  AddPoll(command, &options->common.poll_us);
  AddRdma(command, &options->common.rdma);
  AddIntegrity(command, &options->common.integrity);
  AddTls(command, &options->tls);
  command
      ->add_option("--tls-hostname", options->tls.hostname,
                   "whom the destination's certificate must name (default: the host in --to)")
      ->type_name("NAME");
  command->add_flag("--insecure", options->insecure,
                    "plain TCP beyond loopback, without TLS: whoever can listen reads the VM's "
                    "memory");
  command->add_flag("--quit-source", options->quit_source,
                    "end the source QEMU when all memory has arrived (otherwise it stays paused)");
  AddSandbox(command, &options->common.sandbox);
  AddRecoveryTimeout(command, &options->common.recovery_timeout);
  AddResume(command, "'faultline migrate'", &options->resume_id, &options->resume);
  command->add_flag("--json", options->json, "one JSON object a line on stdout");
  AddRunDirectory(command, &options->run_directory);
  command->footer(
      "Ctrl-C before the handover cancels, and the VM runs on here; after it the command goes on\n"
      "until all memory has arrived.\n"
      "Exit status: 0 done, 1 failed with the VM safe here, 2 bad usage, 3 failed with the VM on\n"
      "the destination.");
  return command;
}

}  // namespace faultline
