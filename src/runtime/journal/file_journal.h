// A journal in a text file: one line a record, on tmpfs while it matters, copied to disk later.
#ifndef FAULTLINE_RUNTIME_JOURNAL_FILE_JOURNAL_H_
#define FAULTLINE_RUNTIME_JOURNAL_FILE_JOURNAL_H_

#include <memory>
#include <optional>
#include <string>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "seams/journal.h"

namespace faultline {

// Format, version 1. The first line is "faultline-journal 1 ID SIDE"; further ones are
// "NUMBER NAME", where NUMBER is the JournalPhase's value: "4 committed", or
// "kept ID TOKEN RUN REGION...", what KeptMigration holds, with each region as
// "SIZE,PAGE_SIZE,OFFSET,DEVICE,INODE,NAME,PATH", texts and bytes in hexadecimal. A line without
// its end was being written when the writer died: it does not count. One that a full file system
// cut short is taken away again. A durable copy ends with "boot ID", the kernel's boot_id when it
// was made.
//
// A journal is open in one process at a time (a lock on the file); readers do not count.
class FileJournal : public Journal {
 public:
  // Creates `path` (which must not exist) on a memory-backed file system; MakeDurable copies it
  // into `state_directory` as ID.SIDE.journal. `side` is "source" or "destination". Errors name the
  // path. Once the migration has ended, the copy goes with this.
  static absl::StatusOr<std::unique_ptr<FileJournal>> Create(const std::string& path,
                                                             const std::string& state_directory,
                                                             const std::string& migration_id,
                                                             const std::string& side);

  ~FileJournal() override;

  // Goes on with a journal that another process began. FailedPrecondition: it has it open still.
  static absl::StatusOr<std::unique_ptr<FileJournal>> Open(const std::string& path,
                                                           const std::string& state_directory);

  absl::Status Record(JournalPhase phase) override;
  absl::Status Keep(const KeptTerms& terms, const VmDescription& vm) override;
  absl::Status MakeDurable() override;

 private:
  FileJournal(FileDescriptor file, std::string path, std::string state_directory);

  const FileDescriptor file_;
  const std::string path_;
  const std::string state_directory_;
  bool ended_ = false;
  std::string durable_name_;  // of the copy there is, or may be; empty: none
};

struct JournalContent {
  std::string migration_id;  // the first line's: a destination's is provisional
  std::string side;
  std::optional<JournalPhase> last_phase;  // none: no record yet
  bool loaded = false;                     // a kLoaded record is there
  bool committed = false;  // a kCommitted record is there (or a later one), whatever followed
  std::optional<KeptMigration> kept;  // of the last "kept" line
  std::string boot_id;                // of a durable copy; empty: it is none

  // The migration's own, once both sides have agreed on it; the first line's until then.
  std::string agreed_id() const;
  // Destination: all memory is here, and the source is not known to know.
  bool whole() const { return last_phase == JournalPhase::kWhole || released(); }
  bool released() const { return last_phase == JournalPhase::kReleased; }
};

absl::StatusOr<JournalContent> ParseJournal(const std::string& text);
absl::StatusOr<JournalContent> ReadJournal(const std::string& path);
// The last record's phase; NotFound if there is none.
absl::StatusOr<JournalPhase> ReadJournalPhase(const std::string& path);

// "committed".
const char* JournalPhaseName(JournalPhase phase);
// Whether nobody takes the migration up again after this record, whatever happens to the host.
bool EndsMigration(JournalPhase phase);

}  // namespace faultline

#endif  // FAULTLINE_RUNTIME_JOURNAL_FILE_JOURNAL_H_
