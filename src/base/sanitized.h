// Whether this build has a sanitizer in it that looks into its own process as a debugger would.
#ifndef FAULTLINE_BASE_SANITIZED_H_
#define FAULTLINE_BASE_SANITIZED_H_

// g++ says it by macros of its own, clang by features.
#if defined(__has_feature)
#define FAULTLINE_HAS_FEATURE(feature) __has_feature(feature)
#else
#define FAULTLINE_HAS_FEATURE(feature) 0
#endif

namespace faultline {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    FAULTLINE_HAS_FEATURE(address_sanitizer) || FAULTLINE_HAS_FEATURE(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace faultline

#undef FAULTLINE_HAS_FEATURE

#endif  // FAULTLINE_BASE_SANITIZED_H_
