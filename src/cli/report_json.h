// The JSON objects of the command line. Pure.
#ifndef FAULTLINE_CLI_REPORT_JSON_H_
#define FAULTLINE_CLI_REPORT_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/status_board.h"
#include "engine/session_report.h"

namespace faultline {

// Keys stay in the order in which they are written: "event" comes first.
using OutputJson = nlohmann::ordered_json;

// How a whole command ended.
struct Outcome {
  Role role = Role::kSource;
  SessionResult result;
  uint64_t elapsed_us = 0;  // since the command's start
};

// One line without its end. Bytes that are not UTF-8 (file names) are replaced.
std::string ToLine(const OutputJson& object);
// Sets `value` if `line` is an object with a text under `key`.
bool ReadText(const std::string& line, const char* key, std::string* value);

OutputJson PhaseJson(Phase phase, const std::string& migration_id, uint64_t elapsed_us);
OutputJson ProgressJson(const ProgressSnapshot& snapshot);
OutputJson NoticeJson(const std::string& text);
// The last object: "completed" or "failed".
OutputJson OutcomeJson(const Outcome& outcome);
// What a status socket answers.
OutputJson StateJson(const SessionState& state);

// The number after the last ':' of "tcp://ADDRESS:PORT"; none if there is none.
std::optional<uint16_t> PortOf(const std::string& address);

}  // namespace faultline

#endif  // FAULTLINE_CLI_REPORT_JSON_H_
