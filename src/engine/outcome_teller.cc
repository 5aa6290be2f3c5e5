#include "engine/outcome_teller.h"

#include <utility>

namespace faultline {

OutcomeTeller::OutcomeTeller(Executor* executor, SourceTransport* transport,
                             const SessionLimits& limits, const Hello& hello, PeerError outcome)
    : executor_(executor),
      transport_(transport),
      limits_(limits),
      hello_(hello),
      outcome_(std::move(outcome)) {}

void OutcomeTeller::Start(Done done) {
  done_ = std::move(done);
  Try();
}

void OutcomeTeller::Try() {
  timer_.reset();
  channel_.reset();
  ++tries_;
  transport_->Connect(hello_, limits_.outcome_retry_us,
                      guard_.Wrap([this](auto channel) { OnConnected(std::move(channel)); }));
}

void OutcomeTeller::OnConnected(absl::StatusOr<std::unique_ptr<ControlChannel>> channel) {
  if (!channel.ok()) return TryAgain();
  channel_ = std::move(channel).value();
  timer_ = executor_->RunAfter(limits_.outcome_retry_us, [this] {
    if (tries_ >= limits_.outcome_tries_max) return Finish(false);
    Try();
  });
  channel_->Send(outcome_);
  channel_->Start(this);
}

void OutcomeTeller::OnMessage(Message message) {
  if (std::holds_alternative<Goodbye>(message)) Finish(true);
  // Nothing over there knows of this migration any more.
  if (std::holds_alternative<PeerError>(message)) Finish(false);
}

void OutcomeTeller::OnChannelClosed(absl::Status) { TryAgain(); }

void OutcomeTeller::TryAgain() {
  if (done_ == nullptr) return;
  if (tries_ >= limits_.outcome_tries_max) return Finish(false);
  timer_ = executor_->RunAfter(limits_.outcome_retry_us, [this] { Try(); });
}

void OutcomeTeller::Finish(bool told) {
  timer_.reset();
  if (Done done = std::exchange(done_, nullptr)) done(told);
}

}  // namespace faultline
