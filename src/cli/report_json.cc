#include "cli/report_json.h"

#include <unistd.h>

#include <charconv>

#include "base/json_text.h"
#include "cli/run_directory.h"

namespace faultline {
namespace {

void AddCounters(const ProgressSnapshot& snapshot, OutputJson* object) {
  OutputJson& o = *object;
  o["pages_total"] = snapshot.pages_total;
  o["pages_missing"] = snapshot.pages_missing;
  o["pages_demand"] = snapshot.pages_demand;
  o["pages_pushed"] = snapshot.pages_pushed;
  o["pages_precopied"] = snapshot.pages_precopied;
  o["pages_absent"] = snapshot.pages_absent;
  o["pages_discarded"] = snapshot.pages_discarded;
  o["faults"] = snapshot.faults;
  o["integrity_mismatches"] = snapshot.mismatches;
  o["reconnects"] = snapshot.reconnects;
  o["bytes_total"] = snapshot.bytes_total;
  o["bytes_wire"] = snapshot.bytes_wire;
  o["bytes_packed_in"] = snapshot.bytes_packed_in;
  o["bytes_packed_out"] = snapshot.bytes_packed_out;
}

OutputJson PreCopyJson(const PreCopyResult& result) {
  OutputJson rounds = OutputJson::array();
  for (const RoundReport& round : result.rounds) {
    rounds.push_back({{"pages", round.pages},
                      {"bytes", round.bytes},
                      {"elapsed_us", round.elapsed_us},
                      {"pages_left", round.pages_left}});
  }
  OutputJson object = OutputJson::object();
  if (result.switch_reason.has_value()) {
    object["switch_reason"] = SwitchReasonName(*result.switch_reason);
  }
  object["tracker"] = result.tracker;
  object["rounds"] = std::move(rounds);
  object["pages_sent"] = result.pages_sent;
  object["bytes_sent"] = result.bytes_sent;
  object["elapsed_us"] = result.elapsed_us;
  object["dirty_bytes_per_second"] = result.dirty_bytes_per_second;
  object["scans"] = result.scans;
  object["scan_us"] = result.scan_us;
  object["scan_us_max"] = result.scan_us_max;
  object["pauses"] = result.pauses;
  object["pause_us"] = result.pause_us;
  object["pause_us_max"] = result.pause_us_max;
  object["throttle_percent"] = result.throttle_percent;
  object["throttled_us"] = result.throttled_us;
  object["pages_old"] = result.pages_old;
  object["pages_old_in_downtime"] = result.pages_old_in_downtime;
  object["settle_us"] = result.settle_us;
  return object;
}

}  // namespace

std::string ToLine(const OutputJson& object) {
  return object.dump(-1, ' ', false, OutputJson::error_handler_t::replace);
}

bool ReadText(const std::string& line, const char* key, std::string* value) {
  const OutputJson object = ParseJson<OutputJson>(line);
  if (!object.is_object()) return false;
  auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return false;
  *value = found->get<std::string>();
  return true;
}

OutputJson PhaseJson(Phase phase, const std::string& migration_id, uint64_t elapsed_us) {
  OutputJson object = {{"event", "phase"}, {"phase", PhaseName(phase)}, {"elapsed_us", elapsed_us}};
  if (!migration_id.empty()) object["id"] = migration_id;
  return object;
}

OutputJson ProgressJson(const ProgressSnapshot& snapshot) {
  OutputJson object = {{"event", "progress"}, {"phase", PhaseName(snapshot.phase)}};
  AddCounters(snapshot, &object);
  if (snapshot.rounds != 0) object["rounds"] = snapshot.rounds;
  if (snapshot.throttle_percent != 0) object["throttle_percent"] = snapshot.throttle_percent;
  object["elapsed_us"] = snapshot.elapsed_us;
  object["post_copy_us"] = snapshot.post_copy_us;
  return object;
}

OutputJson NoticeJson(const std::string& text) { return {{"event", "notice"}, {"text", text}}; }

OutputJson OutcomeJson(const Outcome& outcome) {
  const SessionResult& result = outcome.result;
  OutputJson object = {{"event", result.status.ok() ? "completed" : "failed"},
                       {"id", result.migration_id},
                       {"role", RoleName(outcome.role)},
                       {"mode", ModeName(result.mode)},
                       {"transport", result.transport},
                       {"integrity", result.integrity}};
  // Nobody but the source can tell before the destination knows: until then it is the source's.
  bool known = result.owner != VmOwner::kUndecided;
  object["vm_owner"] = OwnerName(known ? result.owner : VmOwner::kSource);
  object["vm_owner_known"] = known;
  object["downtime_us"] = result.downtime_us;
  object["total_us"] = result.total_us;
  object["elapsed_us"] = outcome.elapsed_us;
  AddCounters(result.last, &object);
  if (outcome.role == Role::kDestination) {
    const HistogramSummary& latency = result.fault_latency_us;
    object["fault_latency_us"] = {{"count", latency.count}, {"p50", latency.p50},
                                  {"p90", latency.p90},     {"p99", latency.p99},
                                  {"p999", latency.p999},   {"max", latency.max}};
  }
  if (result.pre_copy.has_value()) object["pre_copy"] = PreCopyJson(*result.pre_copy);
  if (const std::optional<HugePagesResult>& huge = result.huge_pages) {
    object["huge_pages"] = {
        {"bytes", huge->bytes}, {"elapsed_us", huge->elapsed_us}, {"cut_short", huge->cut_short}};
  }
  if (!result.rails.empty()) {
    OutputJson rails = OutputJson::array();
    for (const RailFigures& rail : result.rails) {
      rails.push_back({{"address", rail.address},
                       {"bytes_pushed", rail.bytes},
                       {"bytes_written", rail.bytes_written}});
    }
    object["rails"] = std::move(rails);
  }
  if (!result.status.ok()) object["error"] = MessageOf(result.status);
  return object;
}

OutputJson StateJson(const SessionState& state) {
  OutputJson object = {{"ok", true},
                       {"id", state.migration_id},
                       {"id_agreed", state.id_agreed},
                       {"role", RoleName(state.role)},
                       {"pid", getpid()},
                       {"endpoint", state.endpoint},
                       {"phase", state.id_agreed ? PhaseName(state.phase) : "waiting"}};
  AddCounters(state.progress, &object);
  object["elapsed_us"] = state.progress.elapsed_us;
  object["post_copy_us"] = state.progress.post_copy_us;
  return object;
}

std::optional<uint16_t> PortOf(const std::string& address) {
  size_t colon = address.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  const char* begin = address.data() + colon + 1;
  const char* end = address.data() + address.size();
  uint16_t port = 0;
  auto [stop, error] = std::from_chars(begin, end, port);
  if (error != std::errc() || stop != end) return std::nullopt;
  return port;
}

}  // namespace faultline
