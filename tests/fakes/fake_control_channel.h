// The control channel over a FakeNetwork: real message bytes, whole or in pieces.
#ifndef FAULTLINE_TESTS_FAKES_FAKE_CONTROL_CHANNEL_H_
#define FAULTLINE_TESTS_FAKES_FAKE_CONTROL_CHANNEL_H_

#include <memory>
#include <string>
#include <vector>

#include "fakes/fake_network.h"
#include "seams/control_channel.h"

namespace faultline {

class FakeControlChannel : public ControlChannel {
 public:
  FakeControlChannel(ManualExecutor* control, std::unique_ptr<FakeSocket> socket, bool is_source)
      : control_(control), socket_(std::move(socket)), is_source_(is_source) {}

  void Start(Listener* listener) override;
  void Send(const Message& message) override;
  std::string peer_name() const override { return "fake:1"; }

 private:
  void OnBytes(const FakeSocket::Bytes& bytes);
  void Close(const absl::Status& reason);

  ManualExecutor* const control_;
  std::unique_ptr<FakeSocket> socket_;
  const bool is_source_;
  Listener* listener_ = nullptr;
  std::vector<std::byte> received_;
  // Expires when a listener destroys the channel from inside a callback.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_FAKE_CONTROL_CHANNEL_H_
