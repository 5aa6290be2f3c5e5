#include "cli/session_record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/file_descriptor.h"
#include "base/json_text.h"
#include "base/private_path.h"
#include "base/text.h"
#include "cli/report_json.h"
#include "cli/status_command.h"
#include "cli/status_server.h"
#include "cli/usage.h"

namespace faultline {
namespace {

absl::StatusOr<SessionRecord> ReadRecord(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadTextFile(path));
  absl::StatusOr<SessionRecord> record = ParseRecord(text);
  return record.ok() ? record : Annotate(record.status(), fmt::format("'{}'", path));
}

// The process id of the command that still runs it; 0: none does.
uint64_t RunningProcess(const RunDirectory& directory, const std::string& id, Role role) {
  absl::StatusOr<std::string> answer =
      AskSession(directory.PathOf(id, role, "sock"), R"({"request":"status"})");
  if (!answer.ok()) return 0;
  const OutputJson state = ParseJson<OutputJson>(*answer);
  auto pid = state.is_object() ? state.find("pid") : state.end();
  return pid != state.end() && pid->is_number_unsigned() ? pid->get<uint64_t>() : 1;
}

// `kept`, a list like "mtu=1024,sl=3", with what `given` names in place of what it said of that. A
// port and a GID belong to the device that they were given with.
std::string MergeRdmaTuning(std::string_view kept, std::string_view given) {
  const auto named = [&](std::string_view name) {
    return ("," + std::string(given)).find("," + std::string(name) + "=") != std::string::npos;
  };
  std::string merged;
  while (!kept.empty()) {
    const size_t comma = std::min(kept.find(','), kept.size());
    const std::string_view item = kept.substr(0, comma);
    const std::string_view name = item.substr(0, item.find('='));
    const bool is_of_device = name == "port" || name == "gid";
    if (!named(name) && !(is_of_device && named("device"))) merged += std::string(item) + ",";
    kept.remove_prefix(std::min(comma + 1, kept.size()));
  }
  return merged + std::string(given);
}

}  // namespace

std::string WhyNotUnfinished(const JournalContent& journal, Role role) {
  if (journal.last_phase == JournalPhase::kCompleted) return "it has completed";
  if (journal.last_phase == JournalPhase::kRolledBack) return "the VM stayed with the source";
  if (journal.last_phase == JournalPhase::kReclaimed) {
    return "the source took the VM back with 'faultline reclaim'";
  }
  if (journal.last_phase == JournalPhase::kAbandoned) {
    return "its source was given up with 'faultline abandon', and what was missing is poisoned";
  }
  // A destination that has said Loaded needs the source's word, whatever it is.
  if (journal.committed || (role == Role::kDestination && journal.loaded)) {
    return journal.kept.has_value() ? "" : "its journal does not say what it needs";
  }
  return "it was not handed over: the VM is the source's";
}

absl::Status TakeOptions(const CommonOptions& given, SessionRecord* record) {
  if (given.poll_us.has_value()) record->poll_us = *given.poll_us;
  if (!given.rdma.control.empty()) record->rdma.control = given.rdma.control;
  if (!given.rdma.tuning.empty()) {
    record->rdma.tuning = MergeRdmaTuning(record->rdma.tuning, given.rdma.tuning);
  }
  if (!given.sandbox.empty()) record->confine = given.sandbox == "on";
  if (!given.recovery_timeout.empty()) {
    ASSIGN_OR_RETURN(record->recovery_timeout_us, ParseRecoveryTimeout(given.recovery_timeout));
  }
  return absl::OkStatus();
}

TlsChoice AbsolutePaths(TlsChoice choice) {
  for (std::string* path : {&choice.directory, &choice.psk_path}) {
    std::error_code ignored;  // the path stays as it is
    if (!path->empty()) *path = std::filesystem::absolute(*path, ignored).string();
  }
  return choice;
}

std::string RecordLine(const SessionRecord& record) {
  return ToLine({{"endpoint", record.endpoint},
                 {"qmp", record.qmp_path},
                 {"hook", record.hook_path},
                 {"mode", record.mode},
                 {"compress", record.compress},
                 {"bandwidth_bytes_per_second", record.bandwidth_bytes_per_second},
                 {"push_order", record.push_order},
                 {"poll_us", static_cast<uint64_t>(record.poll_us)},
                 {"recovery_timeout_us", static_cast<uint64_t>(record.recovery_timeout_us)},
                 {"no_read_around", !record.read_around},
                 {"huge_pages", record.huge_pages},
                 {"tls_dir", record.tls.directory},
                 {"tls_psk", record.tls.psk_path},
                 {"tls_hostname", record.tls.hostname},
                 {"control", record.rdma.control},
                 {"rdma", record.rdma.tuning},
                 {"no_sandbox", !record.confine},
                 {"insecure", record.insecure},
                 {"quit_source", record.quit_source}});
}

absl::StatusOr<SessionRecord> ParseRecord(const std::string& text) {
  const OutputJson object = ParseJson<OutputJson>(text);
  if (!object.is_object()) return absl::InvalidArgumentError("this is no record of a command");
  auto text_of = [&](const char* key, const std::string& otherwise) {
    auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : otherwise;
  };
  auto flag_of = [&](const char* key) {
    auto found = object.find(key);
    return found != object.end() && found->is_boolean() && found->get<bool>();
  };
  SessionRecord record;
  record.endpoint = text_of("endpoint", "");
  record.qmp_path = text_of("qmp", "");
  record.hook_path = text_of("hook", "");
  record.mode = text_of("mode", "postcopy");
  record.compress = text_of("compress", "auto");
  auto bandwidth = object.find("bandwidth_bytes_per_second");
  if (bandwidth != object.end() && bandwidth->is_number_unsigned()) {
    record.bandwidth_bytes_per_second = bandwidth->get<uint64_t>();
  }
  auto time_of = [&](const char* key) {
    auto found = object.find(key);
    const bool is_time = found != object.end() && found->is_number_unsigned() &&
                         found->get<uint64_t>() <= std::numeric_limits<int64_t>::max();
    return is_time ? found->get<int64_t>() : 0;
  };
  record.poll_us = time_of("poll_us");
  record.recovery_timeout_us = time_of("recovery_timeout_us");
  record.push_order = text_of("push_order", "");
  record.tls = {text_of("tls_dir", ""), text_of("tls_psk", ""), text_of("tls_hostname", "")};
  record.rdma = {text_of("control", ""), text_of("rdma", "")};
  record.read_around = !flag_of("no_read_around");
  record.huge_pages = flag_of("huge_pages");
  record.confine = !flag_of("no_sandbox");
  record.insecure = flag_of("insecure");
  record.quit_source = flag_of("quit_source");
  return record;
}

absl::Status WriteRecord(const std::string& path, const SessionRecord& record) {
  const std::string line = RecordLine(record) + "\n";
  const std::string fresh = path + ".new";
  ASSIGN_OR_RETURN(FileDescriptor fd, MakePrivateFile(AT_FDCWD, fresh, O_WRONLY));
  const ssize_t written = write(fd.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size()) && rename(fresh.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  const bool is_short = written >= 0 && written < static_cast<ssize_t>(line.size());
  const int error_number = is_short ? ENOSPC : errno;
  (void)unlink(fresh.c_str());
  return ErrnoStatus(error_number, fmt::format("write '{}'", path));
}

namespace {

// What the journal says can be taken up, with what the command was told. An error names the file
// that is in the way.
absl::StatusOr<Unfinished> ReadUnfinished(const RunDirectory& directory, const SessionFile& file) {
  ASSIGN_OR_RETURN(JournalContent journal, ReadJournal(file.path));
  if (std::string why = WhyNotUnfinished(journal, file.role); !why.empty()) {
    return absl::NotFoundError(why);
  }
  // A destination's journal has a second name, from before it knew the id.
  const std::string id = HexEncode(journal.kept->id);
  if (id != file.migration_id) {
    return absl::NotFoundError(fmt::format("its id is {}", id));
  }
  absl::StatusOr<SessionRecord> record = ReadRecord(directory.PathOf(id, file.role, "command"));
  if (!record.ok()) {
    return absl::DataLossError(
        fmt::format("what its command was told cannot be read ({})", MessageOf(record.status())));
  }
  return Unfinished{.migration_id = id,
                    .journal_path = file.path,
                    .journal = std::move(journal),
                    .record = *std::move(record)};
}

// Why the one that `id` names (or any, if it is empty) is none of those that can be taken up.
absl::Status WhyNone(const RunDirectory& directory, Role role, const std::string& id) {
  ASSIGN_OR_RETURN(std::vector<SessionFile> files, directory.List("journal"));
  for (const SessionFile& file : files) {
    if (file.role != role || !IdMatches(id, file.migration_id)) continue;
    const absl::Status why = ReadUnfinished(directory, file).status();
    // Without an id it is not about those that have ended.
    if (why.ok() || (id.empty() && !absl::IsDataLoss(why))) continue;
    return absl::NotFoundError(fmt::format("migration {} cannot be taken up again: {}",
                                           file.migration_id, MessageOf(why)));
  }
  return absl::NotFoundError(fmt::format(
      "nothing to take up: the run directory '{}' knows no migration{} that was handed over and is "
      "not finished{}",
      directory.path(), role == Role::kSource ? " from here" : " to here",
      id.empty() ? "" : fmt::format(", with an id that begins with '{}'", id)));
}

}  // namespace

absl::StatusOr<std::vector<Unfinished>> ListUnfinished(const RunDirectory& directory, Role role) {
  ASSIGN_OR_RETURN(std::vector<SessionFile> files, directory.List("journal"));
  std::vector<Unfinished> unfinished;
  for (const SessionFile& file : files) {
    if (file.role != role) continue;
    absl::StatusOr<Unfinished> one = ReadUnfinished(directory, file);
    if (one.ok()) unfinished.push_back(*std::move(one));
  }
  return unfinished;
}

absl::Status CheckNoneUnfinished(const RunDirectory& directory, const std::string& qmp_path) {
  ASSIGN_OR_RETURN(std::vector<Unfinished> all, ListUnfinished(directory, Role::kSource));
  for (const Unfinished& one : all) {
    if (one.record.qmp_path != qmp_path) continue;
    return absl::FailedPreconditionError(fmt::format(
        "migration {0} has handed the VM behind '{1}' over, and its memory has not all "
        "followed: 'faultline migrate --resume {0}' goes on with it. If that VM is lost "
        "and this is another one, remove '{2}'",
        one.migration_id, qmp_path, one.journal_path));
  }
  return absl::OkStatus();
}

absl::StatusOr<Unfinished> FindInRunDirectory(const std::string& path, Role role,
                                              const std::string& id) {
  if (!id.empty()) RETURN_IF_ERROR(CheckId(id));
  ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(path));
  return FindUnfinished(directory, role, id);
}

absl::StatusOr<Unfinished> FindUnfinished(const RunDirectory& directory, Role role,
                                          const std::string& id) {
  ASSIGN_OR_RETURN(std::vector<Unfinished> all, ListUnfinished(directory, role));
  std::erase_if(all, [&](const Unfinished& one) { return !IdMatches(id, one.migration_id); });
  // One that runs needs nobody, unless it was asked for.
  std::string running;
  std::erase_if(all, [&](const Unfinished& one) {
    uint64_t pid = RunningProcess(directory, one.migration_id, role);
    if (pid == 0) return false;
    running = fmt::format("{} is being run by process {}, which connects again by itself",
                          one.migration_id, pid);
    return true;
  });
  if (all.size() == 1) return std::move(all.front());
  if (all.size() > 1) {
    std::string ids;
    for (const Unfinished& one : all) ids += " " + one.migration_id;
    return absl::FailedPreconditionError(
        fmt::format("several migrations here can be taken up again; give the id of one:{}", ids));
  }
  if (!running.empty()) {
    return absl::FailedPreconditionError("nothing to take up: migration " + running);
  }
  return WhyNone(directory, role, id);
}

}  // namespace faultline
