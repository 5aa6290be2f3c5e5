// The source's end of a migration over TCP.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_SOURCE_TRANSPORT_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_SOURCE_TRANSPORT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "seams/transport.h"
#include "transport/tcp/tcp_dialer.h"
#include "transport/tcp/tcp_greeting.h"
#include "transport/tcp/tcp_options.h"
#include "transport/tcp/tcp_page_exporter.h"
#include "transport/tcp/tcp_push_lane.h"

namespace faultline {

// Control thread. Teardown: tcp_options.h. Callbacks that are still owed when it is destroyed do
// not come.
class TcpSourceTransport : public SourceTransport {
 public:
  TcpSourceTransport(TcpOptions options, TcpLoops loops);
  ~TcpSourceTransport() override;

  void Connect(const Hello& hello, int64_t timeout_us, Connected done) override;
  void OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  uint64_t bytes_wire() const override { return counters_->total(); }
  PackedBytes bytes_packed() const override;
  std::string name() const override { return options_.tls != nullptr ? "tcp+tls" : "tcp"; }

 protected:
  // A lane's connection that the destination has welcomed, and the token of that Welcome.
  struct JoinedLane {
    TcpConnection connection;
    SessionToken token{};
  };
  struct JoinedLanes {
    LaneTerms terms;
    int64_t deadline_ns = 0;  // of OpenLanes
    JoinedLane demand;
    JoinedLane bulk;
    LanesOpen done;
  };
  // Both connections are there. A transport that uses them in its own way makes its lanes here.
  virtual void UseLanes(JoinedLanes joined);

  WireCounter Counter(std::atomic<uint64_t> WireCounters::*kind) const;
  const TcpOptions& options() const { return options_; }
  const TcpLoops& loops() const { return loops_; }

 private:
  // One lane on its way from nothing to Welcome.
  struct LaneOpening {
    Hello hello;
    std::unique_ptr<TcpDialer> dialer;
    std::unique_ptr<TcpGreeting> greeting;
    bool welcome = false;
    SessionToken token{};  // that came with it
  };
  struct Opening {
    LaneTerms terms;
    int64_t deadline_ns = 0;
    LaneOpening demand;
    LaneOpening bulk;
    LanesOpen done;
  };

  std::unique_ptr<TcpDialer> Dial(int64_t timeout_us, TcpDialer::Done done);
  void OpenLane(LaneOpening* lane);
  void OnLaneConnected(LaneOpening* lane, TcpConnection connection);
  void OnLaneAnswered(LaneOpening* lane, const Message& answer);
  void FinishLanes();
  void FailLanes(const LaneOpening& lane, const absl::Status& status);

  const TcpOptions options_;
  const TcpLoops loops_;
  const std::shared_ptr<WireCounters> counters_ = std::make_shared<WireCounters>();
  uint64_t attempts_begun_ = 0;
  std::map<uint64_t, std::unique_ptr<TcpDialer>> dialers_;  // of control connections
  std::optional<Opening> opening_;
  std::unique_ptr<TcpPageExporter> exporter_;
  std::unique_ptr<TcpPushLane> push_;
  PackedBytes packed_before_;  // on lanes before push_
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_SOURCE_TRANSPORT_H_
