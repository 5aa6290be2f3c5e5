// Who has to go when too many wait at the door. Pure.
#ifndef FAULTLINE_TRANSPORT_TCP_CROWDING_H_
#define FAULTLINE_TRANSPORT_TCP_CROWDING_H_

#include <cstddef>
#include <span>
#include <string>

namespace faultline {

// `peers` ("192.0.2.7:4444"), the oldest first, at least one: the place of the oldest one from the
// host that has most of them. One host's crowd so pushes out its own, and not who comes alone.
size_t WhoHasToGo(std::span<const std::string> peers);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_CROWDING_H_
