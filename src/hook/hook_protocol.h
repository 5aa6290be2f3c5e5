// The messages between faultline-qemu.so (the hook, inside the hypervisor) and the engine.
//
// A hook may live inside a QEMU for years, so this file only ever grows: every released engine
// speaks to every released hook. Values are never renumbered, 0 is reserved in every enum, and the
// header and the first 8 bytes of HELLO never change. docs/hook-protocol.md is the description to
// read.
//
// A unix SOCK_SEQPACKET socket: one packet is one message. All numbers are little-endian. C and
// C++.
#ifndef FAULTLINE_HOOK_HOOK_PROTOCOL_H_
#define FAULTLINE_HOOK_HOOK_PROTOCOL_H_

#include <endian.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// "FLHK" as bytes on the wire.
#define HOOK_MAGIC 0x4b484c46u
// The protocol versions that this source speaks.
#define HOOK_VERSION_MIN 1u
#define HOOK_VERSION_MAX 1u
// Regions in one ARM.
#define HOOK_REGIONS_MAX 256u
// Descriptors in one message, both ways.
#define HOOK_DESCRIPTORS_MAX 2u
// A reply's type is the request's with this bit set.
#define HOOK_REPLY_BIT 0x8000u

enum HookType {
  kHookTypeNone = 0,
  kHookTypeHello = 1,    // -> struct HookHello; <- struct HookHelloReply
  kHookTypeArm = 2,      // -> struct HookArm, regions, [page state, /dev/userfaultfd]
                         // <- struct HookRegions, regions, [userfaultfd]
  kHookTypeTake = 3,     // -> nothing; <- struct HookRegions, regions, [userfaultfd, page state]
  kHookTypeRelease = 4,  // -> nothing; <- nothing
  kHookTypePing = 5,     // -> nothing; <- nothing
  kHookTypeTrack = 6,    // -> struct HookArm, regions, [/dev/userfaultfd]
                         // <- struct HookRegions, regions, [userfaultfd, /proc/self/pagemap]
  kHookTypeUntrack = 7,  // -> nothing; <- nothing
  kHookTypeInspect = 8,  // -> struct HookArm, regions
                         // <- struct HookRegions, regions, [/proc/self/pagemap and .../clear_refs]
};

// In replies; requests carry 0. `detail` and `error_number` of the header say more.
enum HookStatus {
  kHookStatusNone = 0,
  kHookStatusOk = 1,
  kHookStatusBadRequest = 2,   // detail: byte offset of the field that is wrong
  kHookStatusUnsupported = 3,  // a request type or flag unknown to this hook; detail: its value
  kHookStatusVersion = 4,      // detail: lowest version << 16 | highest version of the hook
  kHookStatusBusy = 5,         // another client is connected; detail: its process id
  kHookStatusNotAllowed = 6,   // wrong user; detail: the hook's effective user id
  kHookStatusHelloFirst = 7,   // a request before HELLO
  kHookStatusAlreadyArmed = 8,
  kHookStatusNotArmed = 9,
  kHookStatusRegionNotMapped = 10,   // detail of the region statuses: index in ARM
  kHookStatusRegionPrivate = 11,     // mapped MAP_PRIVATE
  kHookStatusRegionNotCovered = 12,  // not mapped whole, or not as one continuous range
  kHookStatusRegionMappedTwice = 13,
  kHookStatusNotPermitted = 14,     // no userfaultfd; error_number
  kHookStatusFeatureMissing = 15,   // detail: the features that the kernel offers
  kHookStatusRegisterRefused = 16,  // detail: region; error_number
  kHookStatusDescriptors = 17,      // wrong number or kind of descriptors; detail: how many came
  kHookStatusSystem = 18,           // another system call failed; error_number
  kHookStatusAlreadyTracked = 19,
  kHookStatusNotTracked = 20,
};

enum HookArmFlag {
  kHookArmHasDevice = 1,  // a /dev/userfaultfd descriptor comes along, as the last one
};

enum HookHelloFlag {
  kHookHelloArmed = 1,
};

struct HookHeader {
  uint32_t magic;
  uint16_t version;  // the negotiated one; 0 in HELLO, its reply, and refusals before it
  uint16_t type;
  uint32_t length;    // of the whole message, this header included
  uint32_t sequence;  // chosen by the client, echoed in the reply
  uint32_t status;
  uint32_t error_number;  // errno in the hook, or 0
  uint64_t detail;
};

// A later client may append to it; a hook reads what it knows.
struct HookHello {
  uint16_t version_min;
  uint16_t version_max;
  uint32_t flags;  // 0
};

// A later hook may append to it; a client reads what it knows.
struct HookHelloReply {
  uint16_t version;  // the highest that both speak
  uint16_t version_min;
  uint16_t version_max;
  uint16_t reserved;
  uint32_t process_id;  // as the hook's own pid namespace numbers it
  uint32_t flags;       // HookHelloFlag
  char release[16];     // of the hook, NUL-padded, for people
};

// In ARM, TRACK and INSPECT.
struct HookArm {
  uint32_t region_count;
  uint32_t flags;     // HookArmFlag
  uint64_t features;  // UFFD_FEATURE_*; all of them or FeatureMissing
};

// A range of a RAM file, named so that the hook finds it in its own /proc/self/maps.
struct HookRegion {
  uint32_t device_major;
  uint32_t device_minor;
  uint64_t inode;
  uint64_t file_offset;
  uint64_t size;
  uint64_t page_size;  // 4096, or the huge page size of hugetlb
  uint64_t reserved;   // 0
};

struct HookArmedRegion {
  struct HookRegion region;
  uint64_t host_address;  // in the hook's process
  uint64_t ioctls;        // the mask that UFFDIO_REGISTER returned
};

struct HookRegions {
  uint32_t region_count;
  uint32_t reserved;
  uint64_t features;  // that the kernel offers
};

#define HOOK_REQUEST_BYTES_MAX                          \
  (sizeof(struct HookHeader) + sizeof(struct HookArm) + \
   HOOK_REGIONS_MAX * sizeof(struct HookRegion))
#define HOOK_REPLY_BYTES_MAX                                \
  (sizeof(struct HookHeader) + sizeof(struct HookRegions) + \
   HOOK_REGIONS_MAX * sizeof(struct HookArmedRegion))

#ifdef __cplusplus
#define HOOK_ASSERT(condition) static_assert(condition, #condition)
#else
#define HOOK_ASSERT(condition) _Static_assert(condition, #condition)
#endif
HOOK_ASSERT(sizeof(struct HookHeader) == 32);
HOOK_ASSERT(sizeof(struct HookHello) == 8);
HOOK_ASSERT(sizeof(struct HookHelloReply) == 32);
HOOK_ASSERT(sizeof(struct HookArm) == 16);
HOOK_ASSERT(sizeof(struct HookRegion) == 48);
HOOK_ASSERT(sizeof(struct HookArmedRegion) == 64);
HOOK_ASSERT(sizeof(struct HookRegions) == 16);
#undef HOOK_ASSERT

// Each turns a structure from host order into wire order in place; it is its own inverse.
static inline void HookSwapHeader(struct HookHeader* header) {
  header->magic = htole32(header->magic);
  header->version = htole16(header->version);
  header->type = htole16(header->type);
  header->length = htole32(header->length);
  header->sequence = htole32(header->sequence);
  header->status = htole32(header->status);
  header->error_number = htole32(header->error_number);
  header->detail = htole64(header->detail);
}

static inline void HookSwapHello(struct HookHello* hello) {
  hello->version_min = htole16(hello->version_min);
  hello->version_max = htole16(hello->version_max);
  hello->flags = htole32(hello->flags);
}

static inline void HookSwapHelloReply(struct HookHelloReply* reply) {
  reply->version = htole16(reply->version);
  reply->version_min = htole16(reply->version_min);
  reply->version_max = htole16(reply->version_max);
  reply->process_id = htole32(reply->process_id);
  reply->flags = htole32(reply->flags);
}

static inline void HookSwapArm(struct HookArm* arm) {
  arm->region_count = htole32(arm->region_count);
  arm->flags = htole32(arm->flags);
  arm->features = htole64(arm->features);
}

static inline void HookSwapRegion(struct HookRegion* region) {
  region->device_major = htole32(region->device_major);
  region->device_minor = htole32(region->device_minor);
  region->inode = htole64(region->inode);
  region->file_offset = htole64(region->file_offset);
  region->size = htole64(region->size);
  region->page_size = htole64(region->page_size);
  region->reserved = htole64(region->reserved);
}

static inline void HookSwapArmedRegion(struct HookArmedRegion* armed) {
  HookSwapRegion(&armed->region);
  armed->host_address = htole64(armed->host_address);
  armed->ioctls = htole64(armed->ioctls);
}

static inline void HookSwapRegions(struct HookRegions* regions) {
  regions->region_count = htole32(regions->region_count);
  regions->features = htole64(regions->features);
}

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FAULTLINE_HOOK_HOOK_PROTOCOL_H_
