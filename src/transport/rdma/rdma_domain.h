// One device as one migration uses it: its limits, its protection domain, its troubles.
#ifndef FAULTLINE_TRANSPORT_RDMA_RDMA_DOMAIN_H_
#define FAULTLINE_TRANSPORT_RDMA_RDMA_DOMAIN_H_

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "seams/fd_poller.h"
#include "transport/rdma/rdma_events.h"
#include "transport/rdma/verbs_handles.h"

namespace faultline {

// Made and destroyed on the control thread, after every queue pair and registration of it.
class RdmaDomain {
 public:
  using Trouble = std::function<void(absl::Status)>;
  // Of the device that `id` is bound to, by an identifier of its own: a device stays open while one
  // is bound to it. `trouble` hears, on the control thread, that the device or its port went away.
  static absl::StatusOr<std::unique_ptr<RdmaDomain>> MakeBeside(const rdma_cm_id& id,
                                                                RdmaEvents* events,
                                                                FdPoller* control, Trouble trouble);

  ibv_pd* pd() const { return pd_.get(); }
  ibv_context* context() const { return id_->verbs; }
  const ibv_device_attr& limits() const { return limits_; }
  std::string device_name() const { return ibv_get_device_name(id_->verbs->device); }
  // The device is gone, or has said that nothing works any more: what was made of it has to go, so
  // that the device is opened anew.
  bool is_dead() const { return is_dead_; }
  // Whose RDMA READs land by the permission to be written from afar.
  bool is_iwarp() const { return id_->verbs->device->transport_type == IBV_TRANSPORT_IWARP; }

 private:
  RdmaDomain(RdmaId id, Trouble trouble) : trouble_(std::move(trouble)), id_(std::move(id)) {}
  void ReadEvents();

  const Trouble trouble_;
  const RdmaId id_;
  ibv_device_attr limits_{};
  VerbsDomain pd_;
  bool is_dead_ = false;
  std::unique_ptr<FdWatch> watch_;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_RDMA_DOMAIN_H_
