// SourceTransport and DestinationTransport over a FakeNetwork, for tests of the engine and for
// simulation: the same handshake rules, the same bytes, no sockets and no threads. Where a test
// wants something to go wrong it asks the FakeNetwork.
//
//   ManualClock clock;
//   FakeNetwork network(&clock);
//   ManualExecutor control(&clock), demand(&clock), bulk(&clock);   // one set for each side
//   FakeSourceTransport source(&network, &control, &demand, &bulk);
#ifndef FAULTLINE_TESTS_FAKES_FAKE_TRANSPORT_H_
#define FAULTLINE_TESTS_FAKES_FAKE_TRANSPORT_H_

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "fakes/fake_lanes.h"
#include "fakes/fake_network.h"
#include "fakes/manual_executor.h"
#include "seams/transport.h"

namespace faultline {

class FakeSourceTransport : public SourceTransport {
 public:
  FakeSourceTransport(FakeNetwork* network, ManualExecutor* control, ManualExecutor* demand,
                      ManualExecutor* bulk);
  ~FakeSourceTransport() override;

  void Connect(const Hello& hello, int64_t timeout_us, Connected done) override;
  void OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  uint64_t bytes_wire() const override { return *bytes_wire_; }
  std::string name() const override { return "fake"; }

 private:
  struct Attempt {
    std::unique_ptr<Timer> step;
    std::unique_ptr<Timer> timeout;
    Connected done;
  };
  struct Opening {
    LaneTerms terms;
    std::unique_ptr<FakeSocket> demand;
    std::unique_ptr<FakeSocket> bulk;
    bool demand_welcome = false;
    bool bulk_welcome = false;
    std::unique_ptr<Timer> step;
    std::unique_ptr<Timer> timeout;
    LanesOpen done;
  };

  void FinishConnect(uint64_t attempt, absl::StatusOr<std::unique_ptr<ControlChannel>> result);
  void DialControl(uint64_t number, const Hello& hello);
  std::unique_ptr<FakeSocket> Dial(const Hello& hello);
  void DialLanes();
  void AwaitWelcome(FakeSocket* socket, bool* welcome);
  void FailLanes(absl::Status status);

  FakeNetwork* const network_;
  ManualExecutor* const control_;
  ManualExecutor* const demand_;
  ManualExecutor* const bulk_;
  std::shared_ptr<uint64_t> bytes_wire_ = std::make_shared<uint64_t>(0);
  uint64_t attempts_begun_ = 0;
  std::map<uint64_t, Attempt> attempts_;
  std::optional<Opening> opening_;
  std::unique_ptr<FakePageExporter> exporter_;
  std::unique_ptr<FakePushLane> push_;
};

class FakeDestinationTransport : public DestinationTransport {
 public:
  FakeDestinationTransport(FakeNetwork* network, ManualExecutor* control, ManualExecutor* demand,
                           ManualExecutor* bulk);
  ~FakeDestinationTransport() override;

  absl::Status Listen(Arrived arrived) override;
  std::string address() const override { return "fake://1"; }
  void ExpectLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  uint64_t bytes_wire() const override { return *bytes_wire_; }
  std::string name() const override { return "fake"; }

 private:
  struct Expected {
    LaneTerms terms;
    std::unique_ptr<Timer> timeout;
    LanesOpen done;  // empty once it was called
  };

  void Accept(std::unique_ptr<FakeSocket> socket);
  void OnHello(uint64_t stranger, const FakeSocket::Bytes& bytes);
  void JoinLane(const Hello& hello, std::unique_ptr<FakeSocket> socket);
  void FinishLanes(absl::StatusOr<Lanes> lanes);

  FakeNetwork* const network_;
  ManualExecutor* const control_;
  ManualExecutor* const demand_;
  ManualExecutor* const bulk_;
  std::shared_ptr<uint64_t> bytes_wire_ = std::make_shared<uint64_t>(0);
  bool listening_ = false;
  Arrived arrived_;
  uint64_t strangers_seen_ = 0;
  std::map<uint64_t, std::unique_ptr<FakeSocket>> strangers_;
  std::optional<Expected> expected_;
  std::unique_ptr<FakePageReader> reader_;
  std::unique_ptr<FakePushReceiver> push_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_TRANSPORT_H_
