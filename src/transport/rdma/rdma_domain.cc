#include "transport/rdma/rdma_domain.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <cerrno>

#include "base/file_descriptor.h"

namespace faultline {

absl::StatusOr<std::unique_ptr<RdmaDomain>> RdmaDomain::MakeBeside(const rdma_cm_id& id,
                                                                   RdmaEvents* events,
                                                                   FdPoller* control,
                                                                   Trouble trouble) {
  ASSIGN_OR_RETURN(RdmaId own, events->MakeId(nullptr));
  sockaddr_storage address = id.route.addr.src_storage;
  if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&address)->sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in*>(&address)->sin_port = 0;
  }
  if (rdma_bind_addr(own.get(), reinterpret_cast<sockaddr*>(&address)) != 0) {
    return ErrnoStatus(errno, "take hold of the RDMA device");
  }
  if (own->verbs != id.verbs) {
    return absl::FailedPreconditionError("two RDMA devices have the address of the connection");
  }
  std::unique_ptr<RdmaDomain> domain(new RdmaDomain(std::move(own), std::move(trouble)));
  ibv_context* context = domain->context();
  if (int error = ibv_query_device(context, &domain->limits_); error != 0) {
    return ErrnoStatus(error,
                       fmt::format("ask the RDMA device {} for its limits", domain->device_name()));
  }
  domain->pd_.reset(ibv_alloc_pd(context));
  if (domain->pd_ == nullptr) {
    return ErrnoStatus(errno, fmt::format("make a protection domain on {}", domain->device_name()));
  }
  RETURN_IF_ERROR(SetNonBlocking(context->async_fd, true));
  domain->watch_ =
      control->WatchReadable(context->async_fd, [self = domain.get()] { self->ReadEvents(); });
  return domain;
}

void RdmaDomain::ReadEvents() {
  ibv_async_event event;
  absl::Status status;
  errno = 0;
  while (ibv_get_async_event(context(), &event) == 0) {
    const ibv_event_type type = event.event_type;
    const int port = event.element.port_num;
    ibv_ack_async_event(&event);
    if (type == IBV_EVENT_PORT_ERR && port == id_->port_num) {  // another port's is no news
      status = absl::UnavailableError(
          fmt::format("port {} of the RDMA device {} went down", port, device_name()));
    } else if (type == IBV_EVENT_DEVICE_FATAL || type == IBV_EVENT_QP_FATAL ||
               type == IBV_EVENT_CQ_ERR || type == IBV_EVENT_QP_ACCESS_ERR) {
      is_dead_ = is_dead_ || type == IBV_EVENT_DEVICE_FATAL;
      status = absl::UnavailableError(
          fmt::format("the RDMA device {} reports '{}'", device_name(), ibv_event_type_str(type)));
    }
  }
  if (errno != EAGAIN && errno != EINTR) {
    const int error = errno;
    watch_.reset();  // a device that is gone stays readable
    is_dead_ = true;
    status = Annotate(ErrnoStatus(error, "read the device's events"),
                      fmt::format("the RDMA device {} is gone", device_name()));
  }
  if (!status.ok()) trouble_(status);
}

}  // namespace faultline
