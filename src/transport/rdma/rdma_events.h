// The connection manager's events, told to whom they concern.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_EVENTS_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_EVENTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "seams/fd_poller.h"
#include "transport/rdma/verbs_handles.h"

namespace faultline {

// What an event said, so that it can be acknowledged before anybody acts on it.
struct RdmaEvent {
  rdma_cm_event_type type = RDMA_CM_EVENT_ADDR_ERROR;
  rdma_cm_id* id = nullptr;  // of a request: a new one, which is the listener's to own
  int status = 0;
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  size_t private_bytes = 0;
  std::array<std::byte, 64> private_data{};  // the transport may have padded it

  // "route resolution failed: ENODEV (No such device)", for people.
  std::string text() const;
};

// An identifier's owner; its rdma_cm_id's context points here.
class RdmaEventListener {
 public:
  virtual ~RdmaEventListener() = default;
  // May destroy the identifier and its owner.
  virtual void OnRdmaEvent(const RdmaEvent& event) = 0;
};

// Control thread. Outlives the identifiers that are made with it.
class RdmaEvents {
 public:
  using Trouble = std::function<void(absl::Status)>;
  // FailedPrecondition where this host has no RDMA: the sentence says what mends it. `trouble`
  // hears once, later, that no events come any more; it does not destroy this.
  static absl::StatusOr<std::unique_ptr<RdmaEvents>> Make(FdPoller* control, Trouble trouble);

  // A new identifier whose events go to `listener`.
  absl::StatusOr<RdmaId> MakeId(RdmaEventListener* listener);

 private:
  RdmaEvents(RdmaEventChannel channel, Trouble trouble)
      : trouble_(std::move(trouble)), channel_(std::move(channel)) {}
  void ReadAll();
  // The next one could not be read; that there is none now is no failure.
  void OnReadFailed(int error_number);

  const Trouble trouble_;
  RdmaEventChannel channel_;
  std::unique_ptr<FdWatch> watch_;  // goes before channel_
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_EVENTS_H_
