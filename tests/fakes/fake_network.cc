#include "fakes/fake_network.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace faultline {

FakeNetwork::FakeNetwork(ManualClock* clock) : clock_(clock) {}
FakeNetwork::~FakeNetwork() = default;

void FakeNetwork::Cut() {
  refusing_ = true;
  for (const auto& weak : connections_) {
    if (auto connection = weak.lock()) Break(connection);
  }
}

void FakeNetwork::Cut(ConnectionRole role) {
  for (const auto& weak : connections_) {
    if (auto connection = weak.lock(); connection && connection->role == role) Break(connection);
  }
}

void FakeNetwork::StallUntil(ConnectionRole role, int to, int64_t until_ns) {
  stalled_until_ns_[role][to] = until_ns;
  for (const auto& weak : connections_) {
    auto connection = weak.lock();
    if (connection != nullptr && connection->role == role) Arm(connection, to);
  }
}

void FakeNetwork::CutHalf(bool source_hears) {
  for (const auto& weak : connections_) {
    if (auto connection = weak.lock()) {
      connection->half_open = true;
      Break(connection, source_hears, !source_hears);
    }
  }
}

void FakeNetwork::CutUnheard() {
  for (const auto& weak : connections_) {
    if (auto connection = weak.lock()) {
      connection->half_open = true;
      Break(connection, /*source_hears=*/false, /*destination_hears=*/false);
    }
  }
}

void FakeNetwork::Mend() {
  refusing_ = false;
  stalled_ = false;
  for (const auto& weak : connections_) {
    if (auto connection = weak.lock()) {
      Arm(connection, 0);
      Arm(connection, 1);
    }
  }
}

std::unique_ptr<FakeSocket> FakeNetwork::Connect(ConnectionRole role) {
  if (listener_ == nullptr || refusing_) return nullptr;
  auto connection = std::make_shared<Connection>();
  connection->role = role;
  std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
  connections_.push_back(connection);
  listener_->Post([this, connection] {
    std::unique_ptr<FakeSocket> far(new FakeSocket(this, connection, 1));
    if (acceptor_) acceptor_(std::move(far));
  });
  return std::unique_ptr<FakeSocket>(new FakeSocket(this, connection, 0));
}

absl::Status FakeNetwork::Listen(ManualExecutor* executor, Acceptor acceptor) {
  if (listener_ != nullptr) return absl::AlreadyExistsError("fake://1 is taken");
  listener_ = executor;
  acceptor_ = std::move(acceptor);
  return absl::OkStatus();
}

void FakeNetwork::StopListening() {
  listener_ = nullptr;
  acceptor_ = nullptr;
}

FakeFate FakeNetwork::FateOf(const Message& message, bool from_source) {
  return control_hook_ ? control_hook_(message, from_source) : FakeFate::kDeliver;
}

void FakeNetwork::Break(const std::shared_ptr<Connection>& connection, bool source_hears,
                        bool destination_hears) {
  for (int side = 0; side < 2; ++side) {
    End& end = connection->ends[side];
    end.flights.clear();
    end.bytes_in_flight = 0;
    end.paused = false;
    if (side == 0 ? !source_hears : !destination_hears) {
      end.timer.reset();
      continue;
    }
    Flight flight;
    flight.at_ns = clock_->now_ns();
    flight.close = absl::UnavailableError("the connection broke (fake network cut)");
    end.flights.push_back(std::move(flight));
    Arm(connection, side);
  }
}

void FakeNetwork::Queue(const std::shared_ptr<Connection>& connection, int to, Flight flight) {
  if (connection->half_open) return;
  End& end = connection->ends[to];
  if (!end.flights.empty() && !end.flights.back().close.ok()) return;  // already closed
  int64_t start_ns = clock_->now_ns();
  if (bandwidth_ != 0) {
    // The wire is busy with what went before it; latency comes on top.
    start_ns = std::max(start_ns, end.last_at_ns - latency_us_ * 1000);
    start_ns += static_cast<int64_t>(flight.bytes.size() * 1'000'000'000 / bandwidth_);
  }
  int64_t travel_us = latency_us_;
  if (extra_delay_us_) travel_us += extra_delay_us_(connection->role, to);
  flight.at_ns = std::max(end.last_at_ns, start_ns + travel_us * 1000);
  end.last_at_ns = flight.at_ns;
  end.bytes_in_flight += flight.bytes.size();
  end.flights.push_back(std::move(flight));
  Arm(connection, to);
}

void FakeNetwork::Arm(const std::shared_ptr<Connection>& connection, int to) {
  End& end = connection->ends[to];
  if (stalled_ || end.paused || !end.open || end.executor == nullptr || end.flights.empty()) {
    end.timer.reset();
    return;
  }
  int64_t at_ns = std::max(clock_->now_ns(), end.flights.front().at_ns);
  if (auto stalled = stalled_until_ns_.find(connection->role); stalled != stalled_until_ns_.end()) {
    at_ns = std::max(at_ns, stalled->second[to]);
  }
  std::weak_ptr<Connection> weak = connection;
  end.timer = clock_->Schedule(end.executor, at_ns, [this, weak, to] {
    if (auto alive = weak.lock()) Deliver(alive, to);
  });
}

void FakeNetwork::Deliver(const std::shared_ptr<Connection>& connection, int to) {
  End& end = connection->ends[to];
  if (end.flights.empty() || end.executor == nullptr) return;
  Flight flight = std::move(end.flights.front());
  end.flights.pop_front();
  end.bytes_in_flight -= flight.bytes.size();
  // The callbacks may destroy the socket, and with it themselves: they run from copies.
  if (!flight.close.ok()) {
    auto on_closed = end.on_closed;
    end.open = false;
    if (on_closed) on_closed(flight.close);
    return;
  }
  auto on_bytes = end.on_bytes;
  Arm(connection, to);
  End& sender = connection->ends[1 - to];
  if (sender.on_drained && sender.executor != nullptr && sender.open) {
    sender.executor->Post([connection, to] {
      End& from = connection->ends[1 - to];
      if (auto on_drained = from.on_drained; on_drained && from.open) on_drained();
    });
  }
  on_bytes(std::move(flight.bytes));
  if (flight.cut_after) Cut();
}

FakeSocket::~FakeSocket() {
  FakeNetwork::Flight flight;
  flight.close = absl::UnavailableError("the peer closed the connection");
  network_->Queue(connection_, 1 - side_, std::move(flight));
  own().open = false;
  StopReceiving();
}

void FakeSocket::Receive(ManualExecutor* executor, std::function<void(Bytes)> on_bytes,
                         std::function<void(absl::Status)> on_closed) {
  own().executor = executor;
  own().on_bytes = [counter = counter_, on_bytes = std::move(on_bytes)](Bytes bytes) {
    if (counter) *counter += bytes.size();
    on_bytes(std::move(bytes));
  };
  own().on_closed = std::move(on_closed);
  network_->Arm(connection_, side_);
}

void FakeSocket::StopReceiving() {
  own().executor = nullptr;
  own().on_bytes = nullptr;
  own().on_closed = nullptr;
  own().on_drained = nullptr;
  own().timer.reset();
}

void FakeSocket::Pause() {
  own().paused = true;
  network_->Arm(connection_, side_);
}

void FakeSocket::Resume() {
  own().paused = false;
  network_->Arm(connection_, side_);
}

void FakeSocket::Send(Bytes bytes, bool cut_after) {
  if (counter_) *counter_ += bytes.size();
  FakeNetwork::Flight flight;
  flight.bytes = std::move(bytes);
  flight.cut_after = cut_after;
  if (network_->changer_) network_->changer_(connection_->role, 1 - side_, &flight.bytes);
  network_->Queue(connection_, 1 - side_, std::move(flight));
}

uint64_t FakeSocket::bytes_in_flight() const {
  return connection_->ends[1 - side_].bytes_in_flight;
}

void FakeSocket::set_on_drained(std::function<void()> on_drained) {
  own().on_drained = std::move(on_drained);
}

}  // namespace faultline
