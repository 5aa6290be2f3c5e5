// An always-on check for this code's own invariants. What a peer, the kernel or the user did is
// never checked with it: that is a Status.
#ifndef FAULTLINE_BASE_CHECK_H_
#define FAULTLINE_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define FAULTLINE_CHECK(condition)                                                           \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)

#endif  // FAULTLINE_BASE_CHECK_H_
