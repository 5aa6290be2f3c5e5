#include "cli/status_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/json_text.h"
#include "base/text.h"
#include "cli/report_text.h"
#include "cli/session_record.h"
#include "cli/status_server.h"
#include "cli/usage.h"

namespace faultline {
namespace {

// Answers come from another process, perhaps of another version: a missing field is no error. What
// ends on a terminal holds no control characters.
std::string TextOf(const OutputJson& object, const char* key) {
  auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return "";
  std::string text = found->get<std::string>();
  std::replace_if(
      text.begin(), text.end(), [](char c) { return (c >= 0 && c < 0x20) || c == 0x7f; }, '?');
  return text;
}

uint64_t NumberOf(const OutputJson& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

std::string PresentText(const OutputJson& object) {
  uint64_t total = NumberOf(object, "pages_total");
  uint64_t missing = NumberOf(object, "pages_missing");
  if (total == 0 || missing > total || NumberOf(object, "post_copy_us") == 0) return "-";
  return fmt::format("{:.1f}%",
                     100.0 * static_cast<double>(total - missing) / static_cast<double>(total));
}

// What `--resume` does with it. An undecided destination goes on only if the VM is its own.
const char* WhatIsLeft(const JournalContent& journal) {
  if (journal.whole()) return "tells the source that all memory is here";
  if (journal.committed) return "goes on";
  return "asks the source whose the VM is, which stands paused here; it goes on if it is this "
         "host's";
}

// Migrations whose command has died after the handover.
std::string UnfinishedText(const RunDirectory& directory, const std::string& id,
                           const std::vector<RunningSession>& running, bool json) {
  std::string text;
  for (Role role : {Role::kSource, Role::kDestination}) {
    absl::StatusOr<std::vector<Unfinished>> all = ListUnfinished(directory, role);
    if (!all.ok()) continue;
    for (const Unfinished& one : *all) {
      bool runs = std::any_of(running.begin(), running.end(), [&](const RunningSession& session) {
        return session.file.migration_id == one.migration_id && session.file.role == role;
      });
      if (runs || !IdMatches(id, one.migration_id)) continue;
      text += json ? ToLine({{"id", one.migration_id},
                             {"role", RoleName(role)},
                             {"endpoint", one.record.endpoint},
                             {"phase", "unfinished"},
                             {"whole", one.journal.whole()},
                             {"vm_owner_known", one.journal.committed}}) +
                         "\n"
                   : UnfinishedRow(one, role);
    }
  }
  return text;
}

// Migrations that were under way here, past the handover, when this host went down.
std::string LostText(const std::string& state_directory, const std::string& id, bool json) {
  std::string text;
  for (const DurableCopy& copy : CopiesOfEarlierBoots(state_directory)) {
    if (!IdMatches(id, copy.content.agreed_id())) continue;
    text += json ? ToLine({{"id", copy.content.agreed_id()},
                           {"role", copy.content.side},
                           {"phase", "lost"},
                           {"vm_owner", OwnerName(VmOwner::kDestination)},
                           {"state_file", copy.path}}) +
                       "\n"
                 : LostRow(copy);
  }
  return text;
}

// What migrations that have ended left, of those that `id` names.
std::string EndedText(const RunDirectory& directory, const std::string& id, bool json) {
  absl::StatusOr<std::vector<SessionFile>> files = directory.List("json");
  std::string text;
  if (!files.ok()) return text;
  for (const SessionFile& file : *files) {
    if (!IdMatches(id, file.migration_id)) continue;
    absl::StatusOr<std::string> content = ReadTextFile(file.path);
    const OutputJson outcome = content.ok() ? ParseJson<OutputJson>(*content) : OutputJson();
    if (!outcome.is_object()) continue;
    text += json ? ToLine(outcome) + "\n" : EndedRow(outcome);
  }
  return text;
}

}  // namespace

std::string RunningRow(const OutputJson& state) {
  return fmt::format("{:<32}  {:<11}  {:<12}  {:>7}  {:>10}  {:>8}  {}\n", TextOf(state, "id"),
                     TextOf(state, "role"), TextOf(state, "phase"), PresentText(state),
                     FormatBytes(NumberOf(state, "bytes_wire")), NumberOf(state, "pid"),
                     TextOf(state, "endpoint"));
}

std::string UnfinishedRow(const Unfinished& one, Role role) {
  return fmt::format("{:<32}  {:<11}  {:<12}  'faultline {} --resume {}' {}\n", one.migration_id,
                     RoleName(role), "unfinished", role == Role::kSource ? "migrate" : "receive",
                     one.migration_id, WhatIsLeft(one.journal));
}

std::string EndedRow(const OutputJson& outcome) {
  return fmt::format("{:<32}  {:<11}  {:<12}  the VM is the {}'s{}\n", TextOf(outcome, "id"),
                     TextOf(outcome, "role"), TextOf(outcome, "event"), TextOf(outcome, "vm_owner"),
                     TextOf(outcome, "error").empty() ? "" : ": " + TextOf(outcome, "error"));
}

// It was the destination's: no copy is made before.
std::string LostRow(const DurableCopy& copy) {
  const bool was_source = copy.content.side == RoleName(Role::kSource);
  return fmt::format(
      "{:<32}  {:<11}  {:<12}  this host was started again since. {}; then remove '{}'\n",
      copy.content.agreed_id(), copy.content.side, "lost",
      was_source ? "The VM is the destination's, without the memory that it had not fetched: "
                   "'faultline abandon' there"
                 : "The VM was this host's: 'faultline reclaim' on the source takes it back as it "
                   "was at the handover",
      copy.path);
}

absl::StatusOr<std::vector<RunningSession>> FindRunning(const RunDirectory& directory) {
  ASSIGN_OR_RETURN(std::vector<SessionFile> files, directory.List("sock"));
  std::vector<RunningSession> running;
  for (SessionFile& file : files) {
    absl::StatusOr<std::string> answer = AskSession(file.path, R"({"request":"status"})");
    if (absl::IsUnavailable(answer.status()) && access(file.path.c_str(), F_OK) == 0) {
      // Its process was killed: a living one listens before its socket gets this name.
      (void)unlink(file.path.c_str());
    }
    if (!answer.ok()) continue;
    OutputJson state = ParseJson<OutputJson>(*answer);
    if (state.is_object()) running.push_back({std::move(file), std::move(state)});
  }
  return running;
}

bool IdMatches(const std::string& id, const std::string& migration_id) {
  if (id.size() > migration_id.size()) return false;
  return std::equal(id.begin(), id.end(), migration_id.begin(), [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == b;
  });
}

absl::Status CheckId(const std::string& id) {
  if (!id.empty() && id.size() <= 32 &&
      id.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("'{}' is no migration id: give the 32 hexadecimal digits that 'faultline status' "
                  "shows, or the first few of them",
                  id));
}

ExitStatus RunStatus(const std::string& run_directory, const std::string& state_directory,
                     const std::string& id, bool json) {
  if (!id.empty()) {
    if (absl::Status status = CheckId(id); !status.ok()) return UsageError(status, "status");
  }
  absl::StatusOr<RunDirectory> directory = RunDirectory::Open(run_directory);
  if (!directory.ok()) return CommandError(directory.status());
  absl::StatusOr<std::vector<RunningSession>> running = FindRunning(*directory);
  if (!running.ok()) return CommandError(running.status());
  std::string text;
  for (const RunningSession& session : *running) {
    if (!IdMatches(id, session.file.migration_id)) continue;
    text += json ? ToLine(session.state) + "\n" : RunningRow(session.state);
  }
  text += UnfinishedText(*directory, id, *running, json) + LostText(state_directory, id, json);
  if (!text.empty()) {
    if (!json) {
      text = fmt::format("{:<32}  {:<11}  {:<12}  {:>7}  {:>10}  {:>8}  {}\n", "ID", "ROLE",
                         "PHASE", "PRESENT", "ON WIRE", "PID", "ENDPOINT") +
             text;
    }
    return WriteOut(text, ExitStatus::kDone);
  }
  if (id.empty()) return WriteOut(json ? "" : "No migration is running.\n", ExitStatus::kDone);
  text = EndedText(*directory, id, json);
  if (!text.empty()) return WriteOut(text, ExitStatus::kDone);
  return CommandError(absl::NotFoundError(fmt::format(
      "no migration here has an id that begins with '{}': 'faultline status' lists those of this "
      "user on this host (run directory '{}')",
      id, directory->path())));
}

}  // namespace faultline
