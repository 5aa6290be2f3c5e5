#include "runtime/journal/file_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <memory>
#include <string_view>

#include "base/private_path.h"
#include "base/text.h"
#include "runtime/journal/durable_copies.h"
#include "runtime/journal/kept_line.h"

namespace faultline {
namespace {

// Of the folder of durable copies, whose files are private.
constexpr mode_t kOthersWrite = 0022;
constexpr std::string_view kHeader = "faultline-journal 1 ";
constexpr std::string_view kBootPrefix = "boot ";

// One write: a line is either there or, cut short by a crash, without its end.
absl::Status WriteAll(int fd, std::string_view text, const std::string& path) {
  ssize_t written = write(fd, text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size())) return absl::OkStatus();
  const absl::Status status =
      ErrnoStatus(written < 0 ? errno : ENOSPC, fmt::format("write the journal '{}'", path));
  // The piece that fitted would be the beginning of the next line. If it stays, nobody can read
  // that one.
  struct stat info;
  if (written > 0 && fstat(fd, &info) == 0) {
    [[maybe_unused]] int cut = ftruncate(fd, info.st_size - written);
  }
  return status;
}

std::string DurableName(const JournalContent& content) {
  return fmt::format("{}.{}.journal", content.agreed_id(), content.side);
}

// The phase of the line "NUMBER NAME", both of which have to fit: a line that begins with a piece
// of another one is none.
absl::StatusOr<JournalPhase> ParsePhase(std::string_view line) {
  int value = 0;
  auto [stop, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error == std::errc() && value >= static_cast<int>(JournalPhase::kPreparing) &&
      value <= static_cast<int>(JournalPhase::kReleased)) {
    const auto phase = static_cast<JournalPhase>(value);
    if (line == fmt::format("{} {}", value, JournalPhaseName(phase))) return phase;
  }
  return absl::InvalidArgumentError(fmt::format("unknown journal record '{}'", line));
}

// Held for as long as the journal is open, so that no second command works on the same migration:
// one that is stopped or too busy to answer its status socket counts too. It ends with the process.
absl::Status Lock(int fd, const std::string& path) {
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  if (errno != EWOULDBLOCK) return ErrnoStatus(errno, fmt::format("lock the journal '{}'", path));
  return absl::FailedPreconditionError(
      fmt::format("another command works on this migration: it has the journal '{}' open "
                  "('faultline status' and 'fuser' name its process)",
                  path));
}

}  // namespace

const char* JournalPhaseName(JournalPhase phase) {
  switch (phase) {
    case JournalPhase::kPreparing:
      return "preparing";
    case JournalPhase::kFrozen:
      return "frozen";
    case JournalPhase::kLoaded:
      return "loaded";
    case JournalPhase::kCommitted:
      return "committed";
    case JournalPhase::kCompleted:
      return "completed";
    case JournalPhase::kRolledBack:
      return "rolled-back";
    case JournalPhase::kReclaimed:
      return "reclaimed";
    case JournalPhase::kAbandoned:
      return "abandoned";
    case JournalPhase::kWhole:
      return "whole";
    case JournalPhase::kReleased:
      return "released";
  }
  return "unknown";
}

bool EndsMigration(JournalPhase phase) {
  return phase == JournalPhase::kCompleted || phase == JournalPhase::kRolledBack ||
         phase == JournalPhase::kReclaimed || phase == JournalPhase::kAbandoned;
}

FileJournal::FileJournal(FileDescriptor file, std::string path, std::string state_directory)
    : file_(std::move(file)),
      path_(std::move(path)),
      state_directory_(std::move(state_directory)) {}

absl::StatusOr<std::unique_ptr<FileJournal>> FileJournal::Create(const std::string& path,
                                                                 const std::string& state_directory,
                                                                 const std::string& migration_id,
                                                                 const std::string& side) {
  FileDescriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return ErrnoStatus(errno, fmt::format("create the journal '{}'", path));
  }
  RETURN_IF_ERROR(MakePrivate(file, path));
  RETURN_IF_ERROR(Lock(file.get(), path));
  RETURN_IF_ERROR(
      WriteAll(file.get(), fmt::format("{}{} {}\n", kHeader, migration_id, side), path));
  return std::unique_ptr<FileJournal>(new FileJournal(std::move(file), path, state_directory));
}

FileJournal::~FileJournal() {
  if (!ended_ || durable_name_.empty()) return;
  (void)unlink(fmt::format("{}/{}", state_directory_, durable_name_).c_str());
}

absl::Status FileJournal::Record(JournalPhase phase) {
  ended_ = EndsMigration(phase);
  return WriteAll(file_.get(),
                  fmt::format("{} {}\n", static_cast<int>(phase), JournalPhaseName(phase)), path_);
}

absl::StatusOr<std::unique_ptr<FileJournal>> FileJournal::Open(const std::string& path,
                                                               const std::string& state_directory) {
  absl::StatusOr<FileDescriptor> opened = OpenOwnFile(path, O_WRONLY | O_APPEND);
  if (!opened.ok()) return Annotate(opened.status(), "the journal");
  FileDescriptor file = *std::move(opened);
  RETURN_IF_ERROR(Lock(file.get(), path));
  ASSIGN_OR_RETURN(const JournalContent content, ReadJournal(path));
  std::unique_ptr<FileJournal> journal(new FileJournal(std::move(file), path, state_directory));
  journal->durable_name_ = DurableName(content);  // the process before may have made it durable
  return journal;
}

absl::Status FileJournal::Keep(const KeptTerms& terms, const VmDescription& vm) {
  KeptMigration kept{terms, {}};
  for (const RamRegion& ram : vm.regions) {
    struct stat info;
    std::error_code error;
    std::filesystem::path path =
        std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", ram.file), error);
    if (error || fstat(ram.file, &info) < 0) {
      return ErrnoStatus(errno, fmt::format("look at the RAM file of '{}'", ram.layout.name));
    }
    kept.regions.push_back({.layout = ram.layout,
                            .path = path.string(),
                            .file_offset_bytes = ram.file_offset_bytes,
                            .device = info.st_dev,
                            .inode = info.st_ino});
  }
  return WriteAll(file_.get(), KeptLine(kept), path_);
}

absl::Status FileJournal::MakeDurable() {
  ASSIGN_OR_RETURN(FileDescriptor folder, OpenOwnFolder(state_directory_, kOthersWrite));
  // Through the descriptor: the file may have another name since it was created.
  ASSIGN_OR_RETURN(std::string text, ReadTextFile(fmt::format("/proc/self/fd/{}", file_.get())));
  text.resize(text.rfind('\n') + 1);  // the last line may be under way
  ASSIGN_OR_RETURN(const std::string boot_id, BootId());
  ASSIGN_OR_RETURN(const JournalContent content, ParseJournal(text));
  const std::string name = DurableName(content);
  const std::string fresh = name + ".new";
  ASSIGN_OR_RETURN(FileDescriptor copy, MakePrivateFile(folder.get(), fresh, O_WRONLY));
  RETURN_IF_ERROR(WriteAll(copy.get(), fmt::format("{}{}{}\n", text, kBootPrefix, boot_id), fresh));
  durable_name_ = name;
  if (fsync(copy.get()) < 0 ||
      renameat(folder.get(), fresh.c_str(), folder.get(), name.c_str()) < 0 ||
      fsync(folder.get()) < 0) {
    return ErrnoStatus(errno,
                       fmt::format("make the journal durable at '{}/{}'", state_directory_, name));
  }
  return absl::OkStatus();
}

std::string JournalContent::agreed_id() const {
  return kept.has_value() ? HexEncode(kept->id) : migration_id;
}

absl::StatusOr<JournalContent> ParseJournal(const std::string& text) {
  JournalContent content;
  std::string_view rest = text;
  bool header = true;
  while (true) {
    size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    if (std::exchange(header, false)) {
      size_t blank = line.rfind(' ');
      if (!line.starts_with(kHeader) || blank <= kHeader.size()) {
        return absl::InvalidArgumentError(
            fmt::format("this is no journal of a known version: '{}'", line));
      }
      content.migration_id = line.substr(kHeader.size(), blank - kHeader.size());
      content.side = line.substr(blank + 1);
      continue;
    }
    if (line.starts_with(kKeptPrefix)) {
      ASSIGN_OR_RETURN(content.kept, ParseKeptLine(line));
      continue;
    }
    if (line.starts_with(kBootPrefix)) {
      content.boot_id = line.substr(kBootPrefix.size());
      continue;
    }
    ASSIGN_OR_RETURN(const JournalPhase phase, ParsePhase(line));
    content.last_phase = phase;
    content.loaded = content.loaded || phase == JournalPhase::kLoaded;
    content.committed = content.committed || phase == JournalPhase::kCommitted || content.whole();
  }
  if (header) return absl::InvalidArgumentError("the journal has no first line");
  return content;
}

absl::StatusOr<JournalContent> ReadJournal(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadTextFile(path));
  absl::StatusOr<JournalContent> content = ParseJournal(text);
  return content.ok() ? content : Annotate(content.status(), fmt::format("journal '{}'", path));
}

absl::StatusOr<JournalPhase> ReadJournalPhase(const std::string& path) {
  ASSIGN_OR_RETURN(JournalContent content, ReadJournal(path));
  if (content.last_phase) return *content.last_phase;
  return absl::NotFoundError(fmt::format("journal '{}' has no record yet", path));
}

}  // namespace faultline
