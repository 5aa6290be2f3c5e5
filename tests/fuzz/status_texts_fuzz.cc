// JSON that another of our processes left or says: the record of a command, a status socket's
// requests and answers.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/json_text.h"
#include "cli/report_json.h"
#include "cli/session_record.h"
#include "cli/status_command.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const OutputJson object = ParseJson<OutputJson>(text);
  const absl::StatusOr<SessionRecord> record = ParseRecord(text);
  FAULTLINE_CHECK(record.ok() == object.is_object());
  std::string kind;
  FAULTLINE_CHECK(!ReadText(text, "request", &kind) || object.is_object());
  if (!record.ok()) return 0;
  const absl::StatusOr<SessionRecord> again = ParseRecord(RecordLine(*record));
  FAULTLINE_CHECK(again.ok() && *again == *record);
  // Each is one line for people or for programs, whatever is in it.
  FAULTLINE_CHECK(ToLine(object).find('\n') == std::string::npos);
  FAULTLINE_CHECK(ParseJson<OutputJson>(ToLine(object)).is_object());
  for (const std::string& row : {RunningRow(object), EndedRow(object)}) {
    FAULTLINE_CHECK(row.find('\n') == row.size() - 1);
  }
  return 0;
}
