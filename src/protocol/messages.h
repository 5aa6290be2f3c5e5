// The messages of the control channel and the frames of the lanes: docs/protocol.md has the
// sequence, this header the content. Wire values reserve 0 and are never renumbered; all integers
// are little-endian.
#ifndef FAULTLINE_PROTOCOL_MESSAGES_H_
#define FAULTLINE_PROTOCOL_MESSAGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "pages/memory_layout.h"
#include "pages/page_range_set.h"
#include "pages/page_types.h"

namespace faultline {

inline constexpr uint32_t kProtocolMagic = 0x4e4c5446;  // "FTLN"
inline constexpr uint16_t kProtocolVersionMin = 1;
inline constexpr uint16_t kProtocolVersionMax = 1;

using MigrationId = std::array<uint8_t, 16>;
using SessionToken = std::array<uint8_t, 16>;

// What a new connection is for.
enum class ConnectionRole : uint8_t {
  kControl = 1,
  kDemand = 2,
  kBulk = 3,
  // A control connection that only tells that a migration whose first one was lost is given up.
  kOutcome = 4,
  // A control connection that takes a handed-over migration up again whose last one was lost.
  kResume = 5,
};

// Whether a side wants pages checked end to end (DigestOfRun); on kControl and kResume only. Who
// says kCannot knows nothing of it.
enum class IntegrityWish : uint8_t { kCannot = 0, kOff = 1, kDefault = 2, kOn = 3 };

// First bytes of every connection, source to destination. The token is the one that the destination
// gave in Welcome; for kControl it is zero.
struct Hello {
  uint16_t version_min = kProtocolVersionMin;
  uint16_t version_max = kProtocolVersionMax;
  ConnectionRole role = ConnectionRole::kControl;
  uint8_t lane_index = 0;
  MigrationId migration_id{};
  SessionToken token{};
  IntegrityWish integrity = IntegrityWish::kCannot;
  // The source means to send memory in rounds before its VM stops; on kControl only.
  bool pre_copy = false;
  friend bool operator==(const Hello&, const Hello&) = default;
};

// Why a peer turned a connection down, or gave the migration up.
enum class PeerErrorCode : uint16_t {
  kVersion = 1,     // no common protocol version
  kBusy = 2,        // another migration is under way here
  kToken = 3,       // the lane does not belong to a migration here
  kBadMessage = 4,  // a message that breaks the protocol; the text names the field
  kPrepare = 5,     // this side's VM or host is not fit; the text says why
  kVmm = 6,         // the hypervisor failed (freeze, load)
  kCancelled = 7,   // a person cancelled
  kTimeout = 8,
  kMemory = 9,  // installing or reading memory failed
  kInternal = 10,
};

// destination -> source: the answer to Hello. `token` opens the other connections.
struct Welcome {
  uint16_t version = kProtocolVersionMax;
  SessionToken token{};
  bool integrity = false;  // page frames carry check sums; never so where the source cannot
  bool pre_copy = false;   // rounds are understood here; never so where the source asks for none
  friend bool operator==(const Welcome&, const Welcome&) = default;
};

// either -> either, and in place of Welcome: it is over. Before Commit: the VM is the source's.
struct PeerError {
  PeerErrorCode code = PeerErrorCode::kInternal;
  std::string text;
  friend bool operator==(const PeerError&, const PeerError&) = default;
};

// source -> destination: the VM that wants to come.
struct Offer {
  MemoryLayout layout;
  std::string vmm_version;
  friend bool operator==(const Offer&, const Offer&) = default;
};

// destination -> source: layouts match, memory is armed, the lanes may connect.
struct Accepted {
  std::string vmm_version;
  friend bool operator==(const Accepted&, const Accepted&) = default;
};

// source -> destination: the VM stands still; its layout as it is now.
struct Frozen {
  MemoryLayout layout;
  friend bool operator==(const Frozen&, const Frozen&) = default;
};

// source -> destination, at any time after Frozen, as many as needed: pages that hold data. What no
// message names is absent (zero).
struct AllocatedRanges {
  RegionIndex region = 0;
  std::vector<PageRange> ranges;  // ascending, separate
  friend bool operator==(const AllocatedRanges&, const AllocatedRanges&) = default;
};

// source -> destination: the allocation map is whole; pages may be asked for.
struct AllocationMapEnd {
  uint64_t data_pages = 0;  // a check sum of sorts: the pages that AllocatedRanges named in all
  // With integrity, and only then: DigestWithRange over all ranges in the order of the messages.
  std::optional<uint64_t> digest;
  friend bool operator==(const AllocationMapEnd&, const AllocationMapEnd&) = default;
};

// source -> destination: the next piece of the hypervisor's device state.
struct DeviceState {
  std::vector<std::byte> bytes;
  friend bool operator==(const DeviceState&, const DeviceState&) = default;
};

// source -> destination: that was all of it.
struct DeviceStateEnd {
  uint64_t bytes_total = 0;
  // With integrity, and only then: RunDigester over all of it, of an empty run.
  std::optional<uint64_t> digest;
  friend bool operator==(const DeviceStateEnd&, const DeviceStateEnd&) = default;
};

// destination -> source: the VM is loaded and paused here. From here on the destination cannot tell
// by itself whose the VM is.
struct Loaded {
  friend bool operator==(const Loaded&, const Loaded&) = default;
};

// source -> destination: the handover. The VM is the destination's. Also the first word after
// Welcome on a connection that resumes: the destination may have heard it before.
struct Commit {
  bool run = true;           // false: it was paused, leave it so
  uint64_t downtime_us = 0;  // so far, on the source's clock
  friend bool operator==(const Commit&, const Commit&) = default;
};

// destination -> source: the VM runs here (or stands paused, as asked). Said again on a connection
// that resumes.
struct Running {
  uint64_t downtime_us = 0;  // in all: Commit's figure and what the destination added
  friend bool operator==(const Running&, const Running&) = default;
};

// destination -> source, now and then after the handover.
struct Progress {
  uint64_t pages_missing = 0;
  uint64_t pages_demand = 0;
  uint64_t pages_pushed = 0;
  friend bool operator==(const Progress&, const Progress&) = default;
};

// destination -> source: every page is there; the source may forget the VM.
struct Completed {
  uint64_t pages_demand = 0;
  uint64_t pages_pushed = 0;
  uint64_t total_us = 0;  // from the handover to the last page, on the destination's clock
  friend bool operator==(const Completed&, const Completed&) = default;
};

// source -> destination: the answer to Completed; both may close. destination -> source: PeerError,
// or the outcome on a connection of its own, has been read.
struct Goodbye {
  friend bool operator==(const Goodbye&, const Goodbye&) = default;
};

// either -> either: sign of life, whenever nothing else was sent for a while.
struct Heartbeat {
  friend bool operator==(const Heartbeat&, const Heartbeat&) = default;
};

// destination -> source, after Accepted: the lanes have joined and the VMM waits for device state.
struct Ready {
  friend bool operator==(const Ready&, const Ready&) = default;
};

// destination -> source, on a connection that resumes, as many as needed: pages that are missing
// still. What no message names has arrived, or is not wanted any more.
struct StillMissing {
  RegionIndex region = 0;
  std::vector<PageRange> ranges;  // ascending, separate
  friend bool operator==(const StillMissing&, const StillMissing&) = default;
};

// destination -> source: those were all; the lanes may connect.
struct StillMissingEnd {
  uint64_t missing_pages = 0;  // that StillMissing named in all
  bool map_complete = false;  // AllocationMapEnd has come; if not, the map is wanted from its start
  friend bool operator==(const StillMissingEnd&, const StillMissingEnd&) = default;
};

// source -> destination: a DeviceState as a transport sends it where that is shorter: one LZ4
// block. The receiving transport makes a DeviceState of it again; sessions never see it.
struct PackedDeviceState {
  uint32_t unpacked_bytes = 0;  // of the DeviceState; more than `bytes` has
  std::vector<std::byte> bytes;
  friend bool operator==(const PackedDeviceState&, const PackedDeviceState&) = default;
};

// destination -> source, where integrity was agreed: what came for these pages is not what the
// source read. Nothing of it was put in; the connection is given up, and they are asked for again.
struct Mismatch {
  PageRun run;
  friend bool operator==(const Mismatch&, const Mismatch&) = default;
};

// destination -> source, where pre-copy was agreed: what the lane brought between the marks of this
// round (PageFrameKind), or what the StillDirty messages of it said, is in force here.
struct RoundReceived {
  uint32_t round = 0;
  friend bool operator==(const RoundReceived&, const RoundReceived&) = default;
};

// source -> destination, where pre-copy was agreed, before Frozen or soon after it, as many as
// needed: pages that were sent in a round and have been written, or given up, since. They are
// missing again.
struct StillDirty {
  RegionIndex region = 0;
  std::vector<PageRange> ranges;  // ascending, separate
  friend bool operator==(const StillDirty&, const StillDirty&) = default;
};

// source -> destination: those were all of this list, which counts as a round. The first one after
// Frozen is the last: from it on the device state may be loaded.
struct StillDirtyEnd {
  uint32_t round = 0;
  uint64_t dirty_pages = 0;  // that StillDirty named in all since the last list
  // As in AllocationMapEnd.
  std::optional<uint64_t> digest;
  friend bool operator==(const StillDirtyEnd&, const StillDirtyEnd&) = default;
};

// In the order of their wire types, which start at 1 (codec.cc).
using Message =
    std::variant<Hello, Welcome, PeerError, Offer, Accepted, Frozen, AllocatedRanges,
                 AllocationMapEnd, DeviceState, DeviceStateEnd, Loaded, Commit, Running, Progress,
                 Completed, Goodbye, Heartbeat, Ready, StillMissing, StillMissingEnd,
                 PackedDeviceState, Mismatch, RoundReceived, StillDirty, StillDirtyEnd>;

// The name of a message's type, for errors.
const char* MessageName(const Message& message);

// --- Lanes ---

// Demand lane, destination to source: one page, please.
struct PageRequest {
  PageId page;
  friend bool operator==(const PageRequest&, const PageRequest&) = default;
};

// Before the bytes of pages, source to destination, on both lanes. With integrity the check sum of
// the pages (not of what they were packed into) follows those bytes, also where there are none.
enum class PageFrameKind : uint32_t {
  kData = 1,      // `run`'s bytes follow, run.count pages
  kZero = 2,      // the pages are zero, nothing follows (demand lane: one page)
  kFinished = 3,  // bulk lane: no frame follows any more; run is empty
  kPacked = 4,    // bulk lane: `packed_bytes` bytes follow, which unpack to `run`'s bytes
  // Bulk lane, where pre-copy was agreed: what lies between them is of round `run.first`, and takes
  // the place of what earlier rounds brought. Rounds count up from 1, lists of StillDirty among
  // them. Nothing follows, and the rest of `run` is empty.
  kRoundBegin = 5,
  kRoundEnd = 6,
  // Beside RDMA only, without a check sum: a RemotePlace follows, where `run` can be read. Bulk
  // lane: it is pushed by that. Demand lane: from now on no page of it needs to be asked for.
  kReadable = 7,
  // Bulk lane beside RDMA only: from now on the source writes runs into slots of the destination's,
  // which grants them (WriteGrant). `run.first` is the rail, and the rest of `run` is empty.
  kGrantsWanted = 8,
  // The same, without a check sum: a WrittenSlot follows, which `run`'s bytes are written into.
  kWritten = 9,
};
// Whether frames of `kind` are about pages.
constexpr bool HasPages(PageFrameKind kind) {
  return kind == PageFrameKind::kData || kind == PageFrameKind::kZero ||
         kind == PageFrameKind::kPacked || kind == PageFrameKind::kReadable ||
         kind == PageFrameKind::kWritten;
}
// How the bytes of a packed run were packed.
enum class PackAlgorithm : uint16_t {
  kNone = 0,  // of every other kind of frame
  kLz4 = 1,   // one LZ4 block, without LZ4's frame around it
  kZstd = 2,  // one Zstandard frame
};
struct PageFrame {
  PageFrameKind kind = PageFrameKind::kData;
  PageRun run;
  PackAlgorithm algorithm = PackAlgorithm::kNone;
  uint32_t packed_bytes = 0;  // fewer than the run has; 0 for every other kind
  friend bool operator==(const PageFrame&, const PageFrame&) = default;
};

// Where RDMA READ finds pages of the source's, and what permits it, on one rail.
struct RemotePlace {
  uint64_t address = 0;
  uint32_t key = 0;
  uint16_t rail = 0;  // the number of the address among those that both sides were told
  uint16_t more = 0;  // bulk only: so many places of the same pages follow, on other rails
  friend bool operator==(const RemotePlace&, const RemotePlace&) = default;
};

// Bulk lane beside RDMA, destination to source: one run may be written there, once.
struct WriteGrant {
  uint64_t address = 0;
  uint32_t key = 0;
  uint32_t bytes = 0;  // of the slot
  uint16_t rail = 0;
  uint16_t slot = 0;  // its number among the rail's
  friend bool operator==(const WriteGrant&, const WriteGrant&) = default;
};

// Which slot a run is written into.
struct WrittenSlot {
  uint16_t rail = 0;
  uint16_t slot = 0;
  friend bool operator==(const WrittenSlot&, const WrittenSlot&) = default;
};

}  // namespace faultline

#endif  // FAULTLINE_PROTOCOL_MESSAGES_H_
