// The control channel between both engines: whole messages, in order.
#ifndef FAULTLINE_SEAMS_CONTROL_CHANNEL_H_
#define FAULTLINE_SEAMS_CONTROL_CHANNEL_H_

#include "base/status.h"
#include "protocol/messages.h"

namespace faultline {

// All calls happen on the control executor's thread. Destroying the channel closes it, after what
// was sent has been handed to the kernel as far as it takes it without blocking.
class ControlChannel {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void OnMessage(Message message) = 0;
    // The peer closed (Unavailable), the connection broke, or the peer sent something that is no
    // message (InvalidArgument names the field). Nothing follows.
    virtual void OnChannelClosed(absl::Status reason) = 0;
  };

  virtual ~ControlChannel() = default;
  // Messages that arrived before wait for this.
  virtual void Start(Listener* listener) = 0;
  // Queues without limit; never blocks. After the channel closed: does nothing.
  virtual void Send(const Message& message) = 0;
  // For people: "10.0.0.2:4444".
  virtual std::string peer_name() const = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_CONTROL_CHANNEL_H_
