// Whether this build has a sanitizer in it that looks into its own process as a debugger would.
#ifndef FAULTLINE_BASE_SANITIZED_H_
#define FAULTLINE_BASE_SANITIZED_H_

namespace faultline {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace faultline

#endif  // FAULTLINE_BASE_SANITIZED_H_
