// A network inside the process, on a virtual clock: connections that deliver whole chunks in order,
// late, or not at all, as the test says. Under FakeSourceTransport and FakeDestinationTransport.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_NETWORK_H_
#define FAULTLINE_TESTS_FAKES_FAKE_NETWORK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/status.h"
#include "fakes/manual_executor.h"
#include "pages/page_types.h"
#include "protocol/messages.h"

namespace faultline {

class FakeSocket;

// What becomes of one control message.
enum class FakeFate : uint8_t {
  kDeliver,
  kDrop,      // lost, while the connection lives (a real one never does that; a hung peer looks so)
  kCut,       // the network is cut before it
  kCutAfter,  // it is delivered, then the network is cut
};

// One thread. Outlives the transports on it.
class FakeNetwork {
 public:
  using Bytes = std::vector<std::byte>;
  // Takes a new connection, on the listener's executor.
  using Acceptor = std::function<void(std::unique_ptr<FakeSocket>)>;
  using ControlHook = std::function<FakeFate(const Message&, bool from_source)>;

  explicit FakeNetwork(ManualClock* clock);
  ~FakeNetwork();

  // --- For tests ---
  // Breaks every connection at once; both ends hear of it. New ones are refused until Mend.
  void Cut();
  // Breaks the connections of one role only.
  void Cut(ConnectionRole role);
  // Breaks every connection, and only one side hears of it: the other goes on with connections that
  // have no other end any more.
  void CutHalf(bool source_hears);
  // Breaks every connection, and nobody hears of it: both ends are dead.
  void CutUnheard();
  // From now on nothing arrives, and nobody hears why. Mend delivers what waited.
  void Stall() { stalled_ = true; }
  void Mend();
  // The same for what travels to one end (0: the source's, 1: the destination's) of one role's
  // connections, also new ones, until a moment. Nothing else mends it.
  void StallUntil(ConnectionRole role, int to, int64_t until_ns);
  // What a piece of `role`'s travels longer than the latency says, towards end `to`. Pieces of one
  // connection stay in order.
  using Delay = std::function<int64_t(ConnectionRole role, int to)>;
  void set_extra_delay_us(Delay delay) { extra_delay_us_ = std::move(delay); }
  void set_latency_us(int64_t latency_us) { latency_us_ = latency_us; }
  // Per connection and direction; 0: no limit.
  void set_bandwidth_bytes_per_second(uint64_t rate) { bandwidth_ = rate; }
  void set_control_hook(ControlHook hook) { control_hook_ = std::move(hook); }
  // What is sent in place of a control message; nothing: the message itself.
  using Rewriter = std::function<std::optional<Message>(const Message&)>;
  void set_rewriter(Rewriter rewriter) { rewriter_ = std::move(rewriter); }
  // May change what is on its way towards end `to` of a connection.
  using Changer = std::function<void(ConnectionRole role, int to, Bytes* bytes)>;
  void set_changer(Changer changer) { changer_ = std::move(changer); }
  // Told of every run of pages that the source's lanes send, data or zeros.
  void set_page_hook(std::function<void(PageRun)> hook) { page_hook_ = std::move(hook); }
  // Bytes of pushed runs that may be under way.
  void set_push_window_bytes(uint64_t bytes) { push_window_bytes_ = bytes; }
  // A connection that speaks no protocol by itself, to send garbage on; null if nobody listens.
  std::unique_ptr<FakeSocket> Connect(ConnectionRole role);

  // --- For the fake transports ---
  ManualClock* clock() const { return clock_; }
  int64_t latency_us() const { return latency_us_; }
  uint64_t push_window_bytes() const { return push_window_bytes_; }
  bool stalled() const { return stalled_; }
  absl::Status Listen(ManualExecutor* executor, Acceptor acceptor);
  void StopListening();
  FakeFate FateOf(const Message& message, bool from_source);
  Message Rewrite(const Message& message) const {
    return rewriter_ ? rewriter_(message).value_or(message) : message;
  }
  void NotePages(PageRun run) const {
    if (page_hook_) page_hook_(run);
  }

 private:
  friend class FakeSocket;
  struct Flight {
    int64_t at_ns = 0;
    Bytes bytes;
    absl::Status close;  // not ok: the end of the stream
    bool cut_after = false;
  };
  // What travels towards one end, and who takes it there.
  struct End {
    std::deque<Flight> flights;
    uint64_t bytes_in_flight = 0;
    int64_t last_at_ns = 0;
    std::unique_ptr<Timer> timer;
    ManualExecutor* executor = nullptr;
    std::function<void(Bytes)> on_bytes;
    std::function<void(absl::Status)> on_closed;
    std::function<void()> on_drained;  // the peer took something of what this end sent
    bool open = true;
    bool paused = false;
  };
  struct Connection {
    ConnectionRole role{};
    std::array<End, 2> ends;
    bool half_open = false;  // nothing that is sent on it arrives
  };

  void Break(const std::shared_ptr<Connection>& connection, bool source_hears = true,
             bool destination_hears = true);
  void Queue(const std::shared_ptr<Connection>& connection, int to, Flight flight);
  // Sets the timer for the next flight towards `to`, if it may be delivered.
  void Arm(const std::shared_ptr<Connection>& connection, int to);
  void Deliver(const std::shared_ptr<Connection>& connection, int to);

  ManualClock* const clock_;
  int64_t latency_us_ = 50;
  Delay extra_delay_us_;
  uint64_t bandwidth_ = 0;
  uint64_t push_window_bytes_ = 512 * 1024;
  bool stalled_ = false;
  std::map<ConnectionRole, std::array<int64_t, 2>> stalled_until_ns_;
  bool refusing_ = false;
  ControlHook control_hook_;
  Rewriter rewriter_;
  Changer changer_;
  std::function<void(PageRun)> page_hook_;
  ManualExecutor* listener_ = nullptr;
  Acceptor acceptor_;
  std::vector<std::weak_ptr<Connection>> connections_;
};

// One end of a connection. Destroying it closes it, after what was sent.
class FakeSocket {
 public:
  using Bytes = FakeNetwork::Bytes;
  ~FakeSocket();

  // Who takes what arrives; what came before waits for it. May be called again. Nothing follows
  // on_closed.
  void Receive(ManualExecutor* executor, std::function<void(Bytes)> on_bytes,
               std::function<void(absl::Status)> on_closed);
  // Nobody takes anything until the next Receive.
  void StopReceiving();
  void Pause();
  void Resume();
  void Send(Bytes bytes, bool cut_after = false);
  // Bytes that this end sent and the peer has not taken.
  uint64_t bytes_in_flight() const;
  void set_on_drained(std::function<void()> on_drained);
  // Counts what is sent and received from now on.
  void set_counter(std::shared_ptr<uint64_t> counter) { counter_ = std::move(counter); }
  FakeNetwork* network() const { return network_; }

 private:
  friend class FakeNetwork;
  FakeSocket(FakeNetwork* network, std::shared_ptr<FakeNetwork::Connection> connection, int side)
      : network_(network), connection_(std::move(connection)), side_(side) {}
  FakeNetwork::End& own() const { return connection_->ends[side_]; }

  FakeNetwork* const network_;
  const std::shared_ptr<FakeNetwork::Connection> connection_;
  const int side_;
  std::shared_ptr<uint64_t> counter_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_NETWORK_H_
