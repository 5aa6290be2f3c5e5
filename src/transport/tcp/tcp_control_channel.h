// The control channel over one TCP connection.
#ifndef FAULTLINE_TRANSPORT_TCP_TCP_CONTROL_CHANNEL_H_
#define FAULTLINE_TRANSPORT_TCP_TCP_CONTROL_CHANNEL_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "runtime/loop.h"
#include "seams/control_channel.h"
#include "transport/tcp/tcp_stream.h"

namespace faultline {

// Control thread. The listener may destroy the channel from inside a callback.
class TcpControlChannel : public ControlChannel {
 public:
  TcpControlChannel(Loop* control, TcpConnection connection, WireCounter counter);
  ~TcpControlChannel() override;

  void Start(Listener* listener) override;
  void Send(const Message& message) override;
  std::string peer_name() const override { return stream_.peer_name(); }

 private:
  void OnReady(FdReadiness ready);
  void ReadSome();
  // Gives out what is whole. False: the channel is closed or destroyed.
  bool DeliverMessages();
  void Flush();
  void UpdateInterest();
  void Close(absl::Status reason);

  Loop* const loop_;
  TcpStream stream_;
  Listener* listener_ = nullptr;
  std::vector<std::byte> received_;
  size_t received_bytes_ = 0;  // of received_, which is longer
  std::vector<std::byte> unsent_;
  size_t unsent_begin_ = 0;
  // Sending has failed: what the peer said before it went is still read, then the channel closes.
  bool send_failed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_TCP_CONTROL_CHANNEL_H_
