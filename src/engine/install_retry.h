// When an installation that was refused is tried again.
#ifndef FAULTLINE_ENGINE_INSTALL_RETRY_H_
#define FAULTLINE_ENGINE_INSTALL_RETRY_H_

#include <cstdint>

namespace faultline {

inline constexpr int64_t kRetryDelayUs = 1000;       // the mapping is changing
inline constexpr int64_t kNoSpaceDelayUs = 100'000;  // the host has no memory

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_INSTALL_RETRY_H_
