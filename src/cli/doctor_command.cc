#include "cli/doctor_command.h"

#include <fmt/format.h>

#include "cli/doctor_verdicts.h"
#include "cli/report_json.h"
#include "cli/run_directory.h"
#include "cli/usage.h"

namespace faultline {
namespace {

const char* LevelName(DoctorLevel level) {
  switch (level) {
    case DoctorLevel::kOk:
      return "ok";
    case DoctorLevel::kWarn:
      return "warn";
    case DoctorLevel::kFail:
      return "FAIL";
  }
  return "?";
}

std::string AsText(const std::vector<DoctorLine>& lines, bool possible) {
  std::string text;
  for (const DoctorLine& line : lines) {
    text += fmt::format("{:<4}  {}: {}\n", LevelName(line.level), line.subject, line.finding);
    if (!line.mend.empty()) text += fmt::format("      {}\n", line.mend);
  }
  return text + (possible ? "Post-copy is possible here.\n" : "Post-copy is not possible here.\n");
}

std::string AsJson(const std::vector<DoctorLine>& lines, bool possible) {
  std::string text;
  for (const DoctorLine& line : lines) {
    OutputJson object = {
        {"event", "check"},
        {"subject", line.subject},
        {"level", line.level == DoctorLevel::kFail ? "fail" : LevelName(line.level)},
        {"finding", line.finding}};
    if (!line.mend.empty()) object["mend"] = line.mend;
    text += ToLine(object) + "\n";
  }
  return text + ToLine({{"event", "verdict"}, {"postcopy_possible", possible}}) + "\n";
}

}  // namespace

ExitStatus RunDoctor(const CommandParts& parts, const DoctorCommand& command) {
  std::string qmp_path;
  if (!command.vm.empty()) {
    absl::StatusOr<std::string> path = ParseSocketPath(command.vm, "--vm");
    if (!path.ok()) return UsageError(path.status(), "doctor");
    qmp_path = *path;
  }
  std::vector<DoctorLine> lines = JudgeHost(GatherHostFacts(command.qemu, command.hook_library));
  lines.push_back(JudgeTls(parts.examine_tls(command.tls_directory)));
  lines.push_back(JudgeRdma(parts.examine_rdma()));
  if (!qmp_path.empty()) {
    absl::StatusOr<std::vector<DoctorLine>> vm = parts.examine_vm(qmp_path);
    if (vm.ok()) {
      lines.insert(lines.end(), vm->begin(), vm->end());
    } else {
      lines.push_back({"VM", DoctorLevel::kFail, MessageOf(vm.status()),
                       "Give the path of a QMP socket that nobody else is connected to."});
    }
  }
  bool possible = PostCopyPossible(lines);
  return WriteOut(command.json ? AsJson(lines, possible) : AsText(lines, possible),
                  possible ? ExitStatus::kDone : ExitStatus::kFailed);
}

}  // namespace faultline
