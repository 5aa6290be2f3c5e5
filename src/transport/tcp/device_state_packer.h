// Device state on the wire: most of it is zeros, and the VM stands still until it has arrived.
#ifndef FAULTLINE_TRANSPORT_TCP_DEVICE_STATE_PACKER_H_
#define FAULTLINE_TRANSPORT_TCP_DEVICE_STATE_PACKER_H_

#include "base/status.h"
#include "protocol/messages.h"

namespace faultline {

// `state` as it is to be sent: packed where that makes it shorter.
Message PackDeviceState(const DeviceState& state);

// What PackDeviceState was given. InvalidArgument names the field that is bad.
absl::StatusOr<DeviceState> UnpackDeviceState(const PackedDeviceState& packed);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_DEVICE_STATE_PACKER_H_
