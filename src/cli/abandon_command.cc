#include "cli/abandon_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "base/private_path.h"
#include "base/text.h"
#include "cli/confirmation.h"
#include "cli/lone_migration.h"
#include "cli/report_json.h"
#include "cli/run_directory.h"
#include "cli/status_command.h"
#include "cli/usage.h"

namespace faultline {
namespace {

// A file that this command makes, and removes again unless all went well.
class FreshFile {
 public:
  static absl::StatusOr<FreshFile> Create(const std::string& path) {
    // The VM's memory holds secrets.
    FileDescriptor fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd.valid()) return ErrnoStatus(errno, fmt::format("create '{}'", path));
    RETURN_IF_ERROR(MakePrivate(fd, path));
    return FreshFile(std::move(fd), path);
  }
  FreshFile(FreshFile&&) = default;
  FreshFile& operator=(FreshFile&&) = delete;
  ~FreshFile() {
    if (fd_.valid() && !kept_) (void)unlink(path_.c_str());
  }

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  void Keep() { kept_ = true; }
  absl::Status Write(const std::string& text) {
    if (write(fd_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
        fsync(fd_.get()) == 0) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, fmt::format("write '{}'", path_));
  }

 private:
  FreshFile(FileDescriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  FileDescriptor fd_;
  std::string path_;
  bool kept_ = false;
};

struct Totals {
  uint64_t pages = 0;
  uint64_t missing = 0;
  uint64_t bytes = 0;
};

Totals TotalsOf(const std::vector<DumpedRegion>& regions) {
  Totals totals;
  for (const DumpedRegion& region : regions) {
    totals.pages += region.layout.page_count();
    totals.missing += region.missing.page_count();
    totals.bytes += region.layout.size_bytes;
  }
  return totals;
}

// What lies where in the dump, and which of it is not known: [first page, how many].
OutputJson MapJson(const std::string& id, const std::vector<DumpedRegion>& regions) {
  OutputJson list = OutputJson::array();
  for (const DumpedRegion& region : regions) {
    OutputJson missing = OutputJson::array();
    region.missing.ForEach([&](PageRange range) {
      missing.push_back(OutputJson::array({range.first, range.count()}));
    });
    list.push_back({{"name", region.layout.name},
                    {"offset_bytes", region.offset_bytes},
                    {"size_bytes", region.layout.size_bytes},
                    {"page_size_bytes", region.layout.page_size_bytes},
                    {"pages_missing", region.missing.page_count()},
                    {"missing", std::move(missing)}});
  }
  return {{"id", id}, {"regions", std::move(list)}};
}

absl::StatusOr<std::vector<DumpedRegion>> Dump(const CommandParts& parts, const Unfinished& one,
                                               const std::string& path) {
  ASSIGN_OR_RETURN(FreshFile dump, FreshFile::Create(path));
  ASSIGN_OR_RETURN(FreshFile map, FreshFile::Create(path + ".json"));
  ASSIGN_OR_RETURN(std::unique_ptr<AbandonedVm> vm,
                   parts.take_abandoned_vm(one.record.hook_path, one.journal.kept->regions));
  ASSIGN_OR_RETURN(std::vector<DumpedRegion> regions, vm->Dump(dump.fd()));
  RETURN_IF_ERROR(map.Write(ToLine(MapJson(one.migration_id, regions)) + "\n"));
  dump.Keep();
  map.Keep();
  return regions;
}

ExitStatus Tell(const Unfinished& one, const AbandonCommand& command,
                const absl::StatusOr<std::vector<DumpedRegion>>& regions) {
  OutputJson object = {{"event", regions.ok() ? "dumped" : "failed"},
                       {"id", one.migration_id},
                       {"role", RoleName(Role::kDestination)}};
  if (!regions.ok()) {
    CommandError(regions.status());
    object["error"] = MessageOf(regions.status());
    return command.json ? WriteOut(ToLine(object) + "\n", ExitStatus::kFailed)
                        : ExitStatus::kFailed;
  }
  const Totals totals = TotalsOf(*regions);
  if (command.json) {
    object["dump"] = command.dump_path;
    object["map"] = command.dump_path + ".json";
    object["pages_total"] = totals.pages;
    object["pages_missing"] = totals.missing;
    object["bytes_total"] = totals.bytes;
    return WriteOut(ToLine(object) + "\n", ExitStatus::kDone);
  }
  return WriteOut(
      fmt::format(
          "Migration {}: '{}' holds what is here of {} of memory. {} of {} pages are "
          "missing: they are holes there, and '{}.json' says which; they are not zeros. The "
          "VM stays as it was, and stands still where it misses a page.\n",
          one.migration_id, command.dump_path, FormatBytes(totals.bytes), totals.missing,
          totals.pages, command.dump_path),
      ExitStatus::kDone);
}

// What the operator must know before they give the source up.
std::vector<std::string> Consequences(const Unfinished& one, bool kvm) {
  return {
      "what the source had of the VM's memory and had not sent is lost for good",
      kvm ? "this VM runs under KVM: its guest gets a machine check when it touches a missing "
            "page, "
            "and Linux ends the process that did, or panics if it was the kernel itself; QEMU dies "
            "if a device of its own touches one, or if this host cannot "
            "deliver machine checks"
          : "this VM runs without KVM: QEMU dies of a SIGBUS as soon as anybody touches a missing "
            "page, and the VM with it",
      fmt::format(
          "'faultline receive --resume {}' is refused from then on, even if the source comes "
          "back",
          one.migration_id),
  };
}

ExitStatus ExplainPoison(const Unfinished& one, bool kvm, bool json) {
  return AskForConfirmation(
      {.summary =
           fmt::format("migration {}: poisoning makes each page that is missing an error for "
                       "whoever touches it, and lets the VM run",
                       one.migration_id),
       .consequences = Consequences(one, kvm),
       .mend =
           fmt::format("save what is here with '--dump FILE', and make sure that the source is "
                       "lost; then: 'faultline abandon {} --poison --i-know-the-source-is-dead'",
                       one.migration_id)},
      {{"event", "confirmation-needed"},
       {"id", one.migration_id},
       {"role", RoleName(Role::kDestination)},
       {"kvm", kvm}},
      json);
}

// The last thing: from here on there is nothing that `receive --resume` could take over. A record
// that cannot be written changes nothing about that.
void RecordPoison(Journal* journal) {
  absl::Status recorded = journal->Record(JournalPhase::kAbandoned);
  if (recorded.ok()) recorded = journal->MakeDurable();
  if (!recorded.ok()) {
    CommandError(Annotate(recorded, "the pages are poisoned, but the journal may not say so"));
  }
}

ExitStatus Poison(const CommandParts& parts, const RunDirectory& directory, const Unfinished& one,
                  const AbandonCommand& command, Journal* journal) {
  if (!one.journal.committed) {
    return UsageError(absl::FailedPreconditionError(fmt::format(
                          "migration {}: only the source can say whose the VM is, and it may run "
                          "there. '{}' on the source has a line 'committed' if it is this host's",
                          one.migration_id, one.migration_id + ".source.journal")),
                      "abandon");
  }
  absl::StatusOr<std::unique_ptr<AbandonedVm>> vm =
      parts.take_abandoned_vm(one.record.hook_path, one.journal.kept->regions);
  absl::StatusOr<bool> kvm = vm.ok() ? (*vm)->UsesKvm() : vm.status();
  if (kvm.ok() && !command.source_is_dead) return ExplainPoison(one, *kvm, command.json);
  absl::StatusOr<uint64_t> poisoned = kvm.ok() ? (*vm)->Poison() : kvm.status();
  OutputJson object = {{"event", poisoned.ok() ? "poisoned" : "failed"},
                       {"id", one.migration_id},
                       {"role", RoleName(Role::kDestination)},
                       {"vm_owner", RoleName(Role::kDestination)}};
  if (!poisoned.ok()) {
    CommandError(poisoned.status());
    object["error"] = MessageOf(poisoned.status());
    return command.json ? WriteOut(ToLine(object) + "\n", ExitStatus::kFailed)
                        : ExitStatus::kFailed;
  }
  RecordPoison(journal);
  object["kvm"] = *kvm;
  object["pages_poisoned"] = *poisoned;
  const std::string line = ToLine(object) + "\n";
  WriteDecision(directory, Role::kDestination, one.migration_id, line);
  if (command.json) return WriteOut(line, ExitStatus::kDone);
  return WriteOut(fmt::format("Migration {}: {} missing pages are poisoned, and the VM runs until "
                              "somebody touches one.\n",
                              one.migration_id, *poisoned),
                  ExitStatus::kDone);
}

absl::StatusOr<Unfinished> Find(const RunDirectory& directory, const AbandonCommand& command) {
  ASSIGN_OR_RETURN(Unfinished found,
                   FindLone(directory, Role::kDestination, command.id, "abandon"));
  if (found.journal.whole()) {
    return absl::FailedPreconditionError(fmt::format(
        "migration {0}: nothing is missing, all memory is here. 'faultline receive --resume {0}' "
        "tells the source, if it is there",
        found.migration_id));
  }
  if (!command.hook.empty()) {
    ASSIGN_OR_RETURN(found.record.hook_path, ParseSocketPath(command.hook, "--hook"));
  }
  return found;
}

}  // namespace

ExitStatus RunAbandon(const CommandParts& parts, const AbandonCommand& command) {
  if (command.dump_path.empty() != command.poison) {
    return UsageError(
        absl::InvalidArgumentError(
            "say what to do with the VM: either '--dump FILE', which copies the memory "
            "that is here and leaves the VM as it is, or '--poison'"),
        "abandon");
  }
  if (!command.id.empty()) {
    if (absl::Status id = CheckId(command.id); !id.ok()) return UsageError(id, "abandon");
  }
  absl::StatusOr<RunDirectory> directory = RunDirectory::Open(command.run_directory);
  if (!directory.ok()) return UsageError(directory.status(), "abandon");
  absl::StatusOr<Unfinished> one = Find(*directory, command);
  if (!one.ok()) return UsageError(one.status(), "abandon");
  absl::StatusOr<std::unique_ptr<Journal>> journal = LockLone(parts, *one, Role::kDestination);
  if (!journal.ok()) return UsageError(journal.status(), "abandon");
  if (command.poison) return Poison(parts, *directory, *one, command, journal->get());
  return Tell(*one, command, Dump(parts, *one, command.dump_path));
}

}  // namespace faultline
