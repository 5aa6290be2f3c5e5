// What people type: rates, times, addresses, socket paths, ids, a QEMU's command line.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "cli/qemu_arguments.h"
#include "cli/report_json.h"
#include "cli/run_directory.h"
#include "cli/status_command.h"
#include "cli/usage.h"
#include "fuzz/fuzz_input.h"
#include "transport/tcp/tcp_uri.h"

namespace faultline {
namespace {

// A refusal names what was typed.
void CheckRefusal(const absl::Status& status, const std::string& text) {
  FAULTLINE_CHECK(absl::IsInvalidArgument(status));
  FAULTLINE_CHECK(MessageOf(status).find(text) != std::string::npos);
}

void CheckNumbers(const std::string& text) {
  const absl::StatusOr<uint64_t> rate = ParseRate(text);
  if (rate.ok()) {
    FAULTLINE_CHECK(*rate >= 1 && *rate < 1'000'000'000'000'000'000);
  } else {
    CheckRefusal(rate.status(), text);
  }
  const absl::StatusOr<int64_t> time = ParseDurationUs(text);
  if (time.ok()) {
    FAULTLINE_CHECK(*time >= 1 && *time < 1'000'000'000'000'000'000);
  } else {
    CheckRefusal(time.status(), text);
  }
}

void CheckUris(const std::string& text) {
  const absl::StatusOr<TcpUri> uri = ParseTcpUri(text);
  if (!uri.ok()) return CheckRefusal(uri.status(), text);
  FAULTLINE_CHECK(!uri->host.empty());
  const absl::StatusOr<TcpUri> again = ParseTcpUri(uri->text());
  FAULTLINE_CHECK(again.ok() && *again == *uri);
  FAULTLINE_CHECK(IsLoopback(*uri) == IsLoopback(*again));
  // The command looks at it before the transport does.
  FAULTLINE_CHECK(CheckUri(text, "--to").ok());
  FAULTLINE_CHECK(PortOf(text) == uri->port);
}

void CheckPaths(const std::string& text) {
  const absl::StatusOr<std::string> path = ParseSocketPath(text, "--qmp");
  if (path.ok()) {
    // As given, or from the folder that the command stands in.
    const std::string given = text.starts_with("unix:") ? text.substr(5) : text;
    FAULTLINE_CHECK(!given.empty());
    FAULTLINE_CHECK(*path == given || (path->front() == '/' && path->ends_with("/" + given)));
  } else {
    CheckRefusal(path.status(), text);
  }
  if (CheckId(text).ok()) {
    FAULTLINE_CHECK(!text.empty() && text.size() <= 32);
    FAULTLINE_CHECK(!IdMatches(text, std::string(32, 'x')));
  }
}

void CheckQemu(FuzzInput* input) {
  QemuPlanInput plan_input{.command = {},
                           .help_text = input->TextUpTo('\0'),
                           .hook_library = "/lib/faultline-qemu.so",
                           .qmp_path = input->TextUpTo('\0'),
                           .hook_path = "/run/a,b.sock",
                           .preload = ""};
  while (!input->empty()) plan_input.command.push_back(input->TextUpTo('\0'));
  const absl::StatusOr<QemuPlan> plan = PlanQemu(plan_input);
  if (!plan.ok()) {
    FAULTLINE_CHECK(absl::IsInvalidArgument(plan.status()));
    return;
  }
  FAULTLINE_CHECK(CheckQemuCommand(plan_input.command).ok());
  // What the user gave stands first and unchanged.
  FAULTLINE_CHECK(plan->command.size() > plan_input.command.size());
  FAULTLINE_CHECK(
      std::equal(plan_input.command.begin(), plan_input.command.end(), plan->command.begin()));
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  FuzzInput input(data, size);
  if (input.U8() % 4 == 0) {
    CheckQemu(&input);
    return 0;
  }
  const std::string text = input.RestAsText();
  CheckNumbers(text);
  CheckUris(text);
  CheckPaths(text);
  return 0;
}
