// Bytes from a client -> a request. Pure, so that it can be fuzzed.
#ifndef FAULTLINE_HOOK_REQUEST_PARSER_H_
#define FAULTLINE_HOOK_REQUEST_PARSER_H_

#include <stddef.h>

#include "hook/hook_protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

// A request in host order. What does not belong to its type is zero.
struct HookRequest {
  struct HookHeader header;
  struct HookHello hello;
  struct HookArm arm;
  struct HookRegion regions[HOOK_REGIONS_MAX];
};

// Parses one message of `length` bytes. Returns kHookStatusOk, or the status of the refusal with
// its `detail`. `request->header` is filled as far as the bytes go, so that a reply can name its
// sequence. The session's own rules (HELLO first, versions, descriptors) are not checked here.
enum HookStatus HookParseRequest(const void* bytes, size_t length, struct HookRequest* request,
                                 uint64_t* detail);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FAULTLINE_HOOK_REQUEST_PARSER_H_
