#include "cli/common_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <vector>

namespace faultline {

void AddRunDirectory(CLI::App* command, std::string* value) {
  command
      ->add_option("--run-directory", *value,
                   "where running migrations are found (default: /run/faultline for root, "
                   "$XDG_RUNTIME_DIR/faultline for others)")
      ->envname("FAULTLINE_RUN_DIRECTORY")
      ->type_name("DIR");
}

// Up to a second: who means more has taken the unit for another.
void AddPoll(CLI::App* command, std::optional<int64_t>* value) {
  command
      ->add_option(
          "--poll-us", *value,
          "how long the thread that serves the VM's page faults looks for the next one "
          "before it sleeps; 0 (default): not at all. Takes a processor; a fault saves two "
          "wake-ups where both sides poll")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000}))
      ->type_name("MICROSECONDS");
}

void AddHookLibrary(CLI::App* command, std::string* value) {
  command
      ->add_option("--hook-library", *value,
                   "faultline-qemu.so (default: beside this program, or in ../lib/faultline)")
      ->envname("FAULTLINE_HOOK_LIBRARY")
      ->type_name("FILE");
}

void AddTls(CLI::App* command, TlsChoice* choice) {
  command
      ->add_option("--tls-dir", choice->directory,
                   "certificates for TLS, named as QEMU and libvirt name them (default beyond "
                   "loopback: /etc/pki/faultline, else /etc/pki/qemu)")
      ->type_name("DIR");
  command
      ->add_option("--tls-psk", choice->psk_path,
                   "pre-shared keys for TLS instead: a private file of lines identity:hexkey, the "
                   "same on both sides")
      ->type_name("FILE");
}

void AddRdma(CLI::App* command, RdmaChoice* choice) {
  command
      ->add_option("--rdma", choice->tuning,
                   "rdma://: what is not left to the system, with commas between: device=NAME, "
                   "port=, gid=INDEX, sl=, tos=, mtu=BYTES, retries=, timeout=, and at the source "
                   "fallback=off (on by default: after the handover memory goes over TCP where "
                   "RDMA keeps failing) and bulk=write (read by default: whether the background "
                   "transfer is read by the destination or written by the source)")
      ->type_name("NAME=VALUE,...");
  command
      ->add_option("--control", choice->control,
                   "rdma://: where everything but the pages that are read goes (default: to the "
                   "same address), on both sides")
      ->type_name("tcp://HOST:PORT");
}

void AddSandbox(CLI::App* command, std::string* value) {
  command
      ->add_option("--sandbox", *value,
                   "on (default): give up the rights and system calls that moving the VM does not "
                   "need (with rdma:// nothing); off: keep them")
      ->check(CLI::IsMember({"on", "off"}))
      ->type_name("on|off");
}

void AddIntegrity(CLI::App* command, std::string* value) {
  command
      ->add_option("--integrity", *value,
                   "check every page end to end: on (refused if the other side cannot) or off "
                   "(unless the other side says on); default: on where both sides can")
      ->type_name("on|off");
}

void AddRecoveryTimeout(CLI::App* command, std::string* value) {
  command
      ->add_option("--recovery-timeout", *value,
                   "for how long a connection that is lost after the handover is made again before "
                   "the command gives up: 90s, 10min, 2h, or none (default)")
      ->type_name("TIME");
}

// `--resume`, or `--resume ID`.
void AddResume(CLI::App* command, const char* dead, std::string* id, bool* resume) {
  command
      ->add_option_function<std::vector<std::string>>(
          "--resume",
          [id, resume](const std::vector<std::string>& values) {
            *resume = true;
            if (!values.empty()) *id = values.front();
          },
          fmt::format("take a migration up again whose {} died after the handover; where it was "
                      "going and all else is known, and may be given anew",
                      dead))
      ->expected(0, 1)
      ->type_name("[ID]");
}

}  // namespace faultline
