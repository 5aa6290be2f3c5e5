#include "transport/rdma/rdma_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/file_descriptor.h"

namespace faultline {

absl::StatusOr<std::unique_ptr<RdmaConnection>> RdmaConnection::Make(
    RdmaId id, std::shared_ptr<RdmaDomain> domain, uint32_t reads_max) {
  std::unique_ptr<RdmaConnection> made(new RdmaConnection(std::move(domain), reads_max));
  ibv_context* context = made->domain_->context();
  const std::string device = made->domain_->device_name();
  made->channel_.reset(ibv_create_comp_channel(context));
  if (made->channel_ == nullptr) {
    return ErrnoStatus(errno, fmt::format("make a completion channel on {}", device));
  }
  RETURN_IF_ERROR(SetNonBlocking(made->channel_->fd, true));
  const auto entries = static_cast<int>(std::max<uint32_t>(reads_max, 1));
  made->queue_.reset(ibv_create_cq(context, entries, nullptr, made->channel_.get(), 0));
  if (made->queue_ == nullptr) {
    return ErrnoStatus(errno, fmt::format("make a completion queue on {}", device));
  }
  ibv_qp_init_attr attributes{};
  attributes.send_cq = made->queue_.get();
  attributes.recv_cq = made->queue_.get();
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = std::max<uint32_t>(reads_max, 1);
  attributes.cap.max_recv_wr = 1;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  if (rdma_create_qp(id.get(), made->domain_->pd(), &attributes) != 0) {
    return ErrnoStatus(errno, fmt::format("make a queue pair on {}", device));
  }
  made->id_ = std::move(id);
  return made;
}

absl::Status RdmaConnection::MakeSlots(size_t count, size_t bytes_each) {
  ASSIGN_OR_RETURN(slots_, RdmaSlots::Make(*domain_, count, bytes_each));
  return absl::OkStatus();
}

void RdmaConnection::Break() {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  ibv_modify_qp(id_->qp, &attributes, IBV_QP_STATE);  // if it fails, the pair is broken already
}

}  // namespace faultline
