// The destination's end of a migration over TCP.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_DESTINATION_TRANSPORT_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_DESTINATION_TRANSPORT_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "seams/transport.h"
#include "transport/tcp/tcp_greeting.h"
#include "transport/tcp/tcp_options.h"
#include "transport/tcp/tcp_page_reader.h"
#include "transport/tcp/tcp_push_receiver.h"
#include "transport/tcp/tcp_socket.h"

namespace faultline {

// Control thread. Teardown: tcp_options.h. Callbacks that are still owed when it is destroyed do
// not come.
//
// Strangers: a new connection has hello_timeout_us to send a Hello. Whoever sends anything else is
// closed without a word; a Hello of another version is told so (kVersion), one with a token that is
// not ours too (kToken), and so is a peer that is plain where TLS is wanted, or the other way
// round. None of them delays or disturbs anybody else.
class TcpDestinationTransport : public DestinationTransport {
 public:
  TcpDestinationTransport(TcpOptions options, TcpLoops loops);
  ~TcpDestinationTransport() override;

  absl::Status Listen(Arrived arrived) override;
  std::string address() const override;
  void ExpectLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) override;
  uint64_t bytes_wire() const override { return counters_->total(); }
  std::string name() const override { return options_.tls != nullptr ? "tcp+tls" : "tcp"; }

 protected:
  // The ends of lanes, from connections that have joined. A transport that uses them in its own way
  // makes its lanes here; the token goes out before, in the lane's Welcome.
  virtual SessionToken LaneToken(ConnectionRole role) {
    (void)role;
    return expected_->terms.token;
  }
  virtual std::unique_ptr<PageReader> MakeReader(TcpConnection connection);
  virtual std::unique_ptr<PushReceiver> MakeReceiver(TcpConnection connection);
  // Destroys the ends that it made.
  void DropLanes() {
    reader_.reset();
    push_.reset();
  }

  WireCounter Counter(std::atomic<uint64_t> WireCounters::*kind) const;
  const TcpOptions& options() const { return options_; }
  const TcpLoops& loops() const { return loops_; }
  const LaneTerms& terms() const { return expected_->terms; }  // of the lanes that are expected
  SocketAddress listening_address() const;                     // after Listen

 private:
  using Strangers = std::list<TcpGreeting>;  // the oldest first
  struct Expected {
    LaneTerms terms;
    std::unique_ptr<Timer> timeout;
    LanesOpen done;  // empty once it was called
  };

  void AcceptSome();
  void PauseAccepting();
  void Greet(FileDescriptor fd);
  // One stranger less; there is one.
  void MakeRoom();
  void OnGreeted(Strangers::iterator stranger, const absl::StatusOr<Message>& message);
  // Tells both sides why a connection is not secured as this side wants it.
  void TurnAway(TcpGreeting& greeting, const absl::Status& status);
  void Notice(const std::string& text);
  void OnHello(Strangers::iterator stranger, const Hello& hello);
  // Why `hello` gets no connection here.
  std::optional<PeerError> Refuse(const Hello& hello) const;
  void JoinLane(TcpGreeting& greeting, ConnectionRole role);
  void FinishLanes(absl::StatusOr<Lanes> lanes);

  const TcpOptions options_;
  const TcpLoops loops_;
  const std::shared_ptr<WireCounters> counters_ = std::make_shared<WireCounters>();
  Arrived arrived_;
  FileDescriptor listener_;
  std::unique_ptr<FdWatcher> listener_watcher_;  // goes before listener_
  std::unique_ptr<Timer> accept_pause_;
  Strangers strangers_;
  int notices_left_;
  std::optional<Expected> expected_;
  std::unique_ptr<PageReader> reader_;
  std::unique_ptr<PushReceiver> push_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_DESTINATION_TRANSPORT_H_
