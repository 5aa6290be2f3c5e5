#include "assembly/c_session.h"

#include "assembly/c_struct.h"

namespace faultline {
namespace {

faultline_statistics ToC(const ProgressSnapshot& snapshot) {
  faultline_statistics statistics{};
  statistics.struct_size = sizeof statistics;
  statistics.phase = static_cast<faultline_phase>(snapshot.phase);
  statistics.pages_total = snapshot.pages_total;
  statistics.pages_missing = snapshot.pages_missing;
  statistics.pages_absent = snapshot.pages_absent;
  statistics.pages_demand = snapshot.pages_demand;
  statistics.pages_pushed = snapshot.pages_pushed;
  statistics.pages_discarded = snapshot.pages_discarded;
  statistics.faults = snapshot.faults;
  statistics.bytes_total = snapshot.bytes_total;
  statistics.bytes_wire = snapshot.bytes_wire;
  statistics.elapsed_us = snapshot.elapsed_us;
  statistics.post_copy_us = snapshot.post_copy_us;
  statistics.bytes_packed_in = snapshot.bytes_packed_in;
  statistics.bytes_packed_out = snapshot.bytes_packed_out;
  statistics.reconnects = snapshot.reconnects;
  return statistics;
}

faultline_result ToC(const SessionResult& ended) {
  faultline_result result{};
  result.struct_size = sizeof result;
  result.status = ToCStatus(ended.status.code());
  result.owner = static_cast<faultline_owner>(ended.owner);
  CopyText(MessageOf(ended.status), result.message);
  CopyText(ended.migration_id, result.migration_id);
  CopyText(ended.transport, result.transport);
  result.downtime_us = ended.downtime_us;
  result.total_us = ended.total_us;
  result.pages_total = ended.last.pages_total;
  result.pages_absent = ended.last.pages_absent;
  result.pages_demand = ended.last.pages_demand;
  result.pages_pushed = ended.last.pages_pushed;
  result.pages_discarded = ended.last.pages_discarded;
  result.bytes_wire = ended.last.bytes_wire;
  result.fault_latency = {ended.fault_latency_us.count, ended.fault_latency_us.p50,
                          ended.fault_latency_us.p90,   ended.fault_latency_us.p99,
                          ended.fault_latency_us.p999,  ended.fault_latency_us.max};
  result.bytes_packed_in = ended.last.bytes_packed_in;
  result.bytes_packed_out = ended.last.bytes_packed_out;
  result.reconnects = ended.last.reconnects;
  return result;
}

}  // namespace

CSession::CSession(Parts parts, std::unique_ptr<Session> session)
    : parts_(std::move(parts)), session_(std::move(session)) {
  statistics_ = ToC(ProgressSnapshot());
}

void CSession::Start() {
  thread_ = std::thread([this] { Run(); });
}

CSession::~CSession() {
  if (thread_.joinable()) thread_.join();
}

faultline_result CSession::Wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  ended_.wait(lock, [this] { return has_ended_; });
  return result_;
}

// A session that has not begun yet would not mind: its first phase is waited for.
void CSession::Cancel(const std::string& reason) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (has_ended_) return;
    if (!has_begun_) {
      early_cancel_ = reason;
      return;
    }
  }
  session_->Cancel(reason);
}

faultline_statistics CSession::Statistics() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return statistics_;
}

void CSession::OnListening(const std::string& address) {
  Tell(parts_.events.on_listening, address.c_str());
}

void CSession::OnPhase(Phase phase, const std::string& migration_id) {
  std::optional<std::string> cancel;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    statistics_.phase = static_cast<faultline_phase>(phase);
    has_begun_ = true;
    cancel = std::exchange(early_cancel_, std::nullopt);
  }
  if (cancel.has_value()) session_->Cancel(*cancel);
  Tell(parts_.events.on_phase, static_cast<faultline_phase>(phase), migration_id.c_str());
}

void CSession::OnProgress(const ProgressSnapshot& snapshot) {
  const faultline_statistics statistics = ToC(snapshot);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    statistics_ = statistics;
  }
  Tell(parts_.events.on_progress, &statistics);
}

void CSession::OnNotice(const std::string& text) { Tell(parts_.events.on_notice, text.c_str()); }

void CSession::Run() {
  const SessionResult ended = session_->Run(this);
  const faultline_result result = ToC(ended);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    statistics_ = ToC(ended.last);
    statistics_.phase = ended.status.ok() ? FAULTLINE_PHASE_COMPLETED : FAULTLINE_PHASE_FAILED;
  }
  Tell(parts_.events.on_ended, &result);
  // Only now: whoever waits may take everything away once the last callback is over.
  const std::lock_guard<std::mutex> lock(mutex_);
  result_ = result;
  has_ended_ = true;
  ended_.notify_all();
}

}  // namespace faultline
