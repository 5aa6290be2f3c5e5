#include "transport/rdma/rdma_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/file_descriptor.h"

namespace faultline {
namespace {

constexpr uint32_t MtuBytes(ibv_mtu mtu) { return uint32_t{128} << mtu; }

}  // namespace

absl::StatusOr<std::unique_ptr<RdmaConnection>> RdmaConnection::Make(
    RdmaId id, std::shared_ptr<RdmaDomain> domain, const RdmaTerms& terms,
    const RdmaTuning& tuning) {
  std::unique_ptr<RdmaConnection> made(new RdmaConnection(std::move(domain), terms, tuning));
  made->id_ = std::move(id);
  RETURN_IF_ERROR(made->MakePair());
  RETURN_IF_ERROR(made->Enter(IBV_QPS_INIT));
  return made;
}

absl::Status RdmaConnection::MakePair() {
  ibv_context* context = domain_->context();
  const std::string device = domain_->device_name();
  channel_.reset(ibv_create_comp_channel(context));
  if (channel_ == nullptr) {
    return ErrnoStatus(errno, fmt::format("make a completion channel on {}", device));
  }
  RETURN_IF_ERROR(SetNonBlocking(channel_->fd, true));
  const uint32_t sends = std::max<uint32_t>(terms_.reads_max + 2 * terms_.writes_max, 1);
  const uint32_t receives = std::max<uint32_t>(terms_.writes_served, 1);
  queue_.reset(ibv_create_cq(context, static_cast<int>(sends + terms_.writes_served), nullptr,
                             channel_.get(), 0));
  if (queue_ == nullptr) {
    return ErrnoStatus(errno, fmt::format("make a completion queue on {}", device));
  }
  ibv_qp_init_attr attributes{};
  attributes.send_cq = queue_.get();
  attributes.recv_cq = queue_.get();
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = sends;
  attributes.cap.max_recv_wr = receives;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  pair_.reset(ibv_create_qp(domain_->pd(), &attributes));
  if (pair_ == nullptr) return ErrnoStatus(errno, fmt::format("make a queue pair on {}", device));
  return absl::OkStatus();
}

absl::Status RdmaConnection::BringUp() {
  if (domain_->is_iwarp()) return absl::OkStatus();  // its connection manager does it
  RETURN_IF_ERROR(Enter(IBV_QPS_RTR));
  return Enter(IBV_QPS_RTS);
}

absl::Status RdmaConnection::Enter(ibv_qp_state state) {
  ibv_qp_attr attributes{};
  attributes.qp_state = state;
  int mask = 0;
  if (rdma_init_qp_attr(id_.get(), &attributes, &mask) != 0) {
    return ErrnoStatus(errno, "ask how the queue pair is to be connected");
  }
  Tune(&attributes, mask);
  const int error = ibv_modify_qp(pair_.get(), &attributes, mask);
  if (error == 0) return absl::OkStatus();
  return ErrnoStatus(error, fmt::format("connect a queue pair of {}", domain_->device_name()));
}

void RdmaConnection::Tune(ibv_qp_attr* attributes, int mask) {
  // The connection manager does not know yet, or permits more than is needed; iWARP's READs need
  // what it says.
  if ((mask & IBV_QP_ACCESS_FLAGS) != 0 && !domain_->is_iwarp()) {
    attributes->qp_access_flags = (terms_.reads_served > 0 ? IBV_ACCESS_REMOTE_READ : 0) |
                                  (terms_.writes_served > 0 ? IBV_ACCESS_REMOTE_WRITE : 0);
  }
  if ((mask & IBV_QP_PATH_MTU) != 0) {
    for (const uint32_t limit : {tuning_.mtu_bytes, terms_.mtu_bytes_max}) {
      while (limit != 0 && MtuBytes(attributes->path_mtu) > limit) {
        attributes->path_mtu = static_cast<ibv_mtu>(attributes->path_mtu - 1);
      }
    }
    mtu_bytes_ = MtuBytes(attributes->path_mtu);
  }
  if ((mask & IBV_QP_AV) != 0) {
    if (tuning_.service_level.has_value()) attributes->ah_attr.sl = *tuning_.service_level;
    if (tuning_.gid_index.has_value() && attributes->ah_attr.is_global != 0) {
      attributes->ah_attr.grh.sgid_index = *tuning_.gid_index;
    }
  }
  if ((mask & IBV_QP_TIMEOUT) != 0) attributes->timeout = tuning_.ack_timeout;
  if ((mask & IBV_QP_RETRY_CNT) != 0) attributes->retry_cnt = tuning_.retries;
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0) {
    attributes->max_dest_rd_atomic = terms_.reads_served;
  }
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0) {
    attributes->max_rd_atomic = static_cast<uint8_t>(terms_.reads_max);
  }
}

rdma_conn_param RdmaConnection::parameters() const {
  rdma_conn_param parameters{};
  parameters.qp_num = pair_->qp_num;
  parameters.responder_resources = terms_.reads_served;
  parameters.initiator_depth = static_cast<uint8_t>(terms_.reads_max);
  parameters.retry_count = tuning_.retries;
  parameters.rnr_retry_count = 7;
  return parameters;
}

absl::Status RdmaConnection::MakeSlots(size_t count, size_t bytes_each) {
  ASSIGN_OR_RETURN(slots_, RdmaSlots::Make(*domain_, count, bytes_each, terms_.writes_served > 0));
  return absl::OkStatus();
}

void RdmaConnection::Break() {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  ibv_modify_qp(pair_.get(), &attributes, IBV_QP_STATE);  // if it fails, the pair is broken already
}

}  // namespace faultline
