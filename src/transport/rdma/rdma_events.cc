#include "transport/rdma/rdma_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file_descriptor.h"

namespace faultline {

std::string RdmaEvent::text() const {
  // A refusal's status is the connection manager's reason, not an error number.
  if (type == RDMA_CM_EVENT_REJECTED) return fmt::format("it was refused (reason {})", status);
  if (status == 0) return rdma_event_str(type);
  return MessageOf(ErrnoStatus(status < 0 ? -status : status, rdma_event_str(type)));
}

absl::StatusOr<std::unique_ptr<RdmaEvents>> RdmaEvents::Make(FdPoller* control, Trouble trouble) {
  RdmaEventChannel channel(rdma_create_event_channel());
  if (channel == nullptr) {
    return absl::FailedPreconditionError(fmt::format(
        "this host has no RDMA to use ({}): load rdma_ucm (modprobe rdma_ucm), see that `rdma "
        "link` shows a device and that this user may open /dev/infiniband/rdma_cm; `faultline "
        "doctor` says more",
        std::strerror(errno)));
  }
  RETURN_IF_ERROR(SetNonBlocking(channel->fd, true));
  std::unique_ptr<RdmaEvents> events(new RdmaEvents(std::move(channel), std::move(trouble)));
  events->watch_ =
      control->WatchReadable(events->channel_->fd, [self = events.get()] { self->ReadAll(); });
  return events;
}

absl::StatusOr<RdmaId> RdmaEvents::MakeId(RdmaEventListener* listener) {
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(channel_.get(), &id, listener, RDMA_PS_TCP) != 0) {
    return ErrnoStatus(errno, "make an RDMA connection identifier");
  }
  return RdmaId(id);
}

void RdmaEvents::ReadAll() {
  std::weak_ptr<bool> alive = alive_;
  while (!alive.expired()) {
    rdma_cm_event* event = nullptr;
    if (rdma_get_cm_event(channel_.get(), &event) != 0) return OnReadFailed(errno);
    RdmaEvent copy;
    copy.type = event->event;
    copy.id = event->id;
    copy.status = event->status;
    const rdma_conn_param& connection = event->param.conn;
    copy.responder_resources = connection.responder_resources;
    copy.initiator_depth = connection.initiator_depth;
    if (connection.private_data != nullptr) {
      copy.private_bytes = std::min<size_t>(connection.private_data_len, copy.private_data.size());
      std::memcpy(copy.private_data.data(), connection.private_data, copy.private_bytes);
    }
    const rdma_cm_id* owner = event->listen_id != nullptr ? event->listen_id : event->id;
    auto* listener = static_cast<RdmaEventListener*>(owner->context);
    // First, since whoever hears of it may destroy the identifier, which waits for this.
    rdma_ack_cm_event(event);
    if (listener != nullptr) listener->OnRdmaEvent(copy);
  }
}

void RdmaEvents::OnReadFailed(int error_number) {
  if (error_number == EAGAIN || error_number == EINTR) return;
  watch_.reset();  // a channel that is broken stays readable
  trouble_(Annotate(ErrnoStatus(error_number, "read the events of RDMA connections"),
                    "RDMA's connection manager is gone"));
}

}  // namespace faultline
