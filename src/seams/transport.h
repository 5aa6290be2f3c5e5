// Setting up the connections of one migration.
//
// All methods are called on the control executor's thread and return at once; callbacks run there.
// The lanes that they give out belong to the transport, live until it gives out the next ones or
// ends, and are used on their own executors' threads (demand, bulk).
//
// A migration whose connections were lost opens new ones: OpenLanes and ExpectLanes may be called
// again at any time. What an earlier call has not given out yet is dropped without a word; what it
// has given out must have been stopped.
#ifndef FAULTLINE_SEAMS_TRANSPORT_H_
#define FAULTLINE_SEAMS_TRANSPORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "pages/memory_layout.h"
#include "protocol/messages.h"
#include "seams/compression.h"
#include "seams/control_channel.h"
#include "seams/page_exporter.h"
#include "seams/page_reader.h"
#include "seams/push_lane.h"

namespace faultline {

// What the lanes of one migration are given.
struct LaneTerms {
  MigrationId id{};
  SessionToken token{};  // joins them to it
  MemoryLayout layout;
  bool integrity = false;  // pages come with the source's check sum of them (DigestOfRun)
  // Source only, and it outlives the lanes: what a transport makes readable before the VM stands
  // still. Null: nothing.
  SourceMemory* memory = nullptr;
  // Source only: the VM is the destination's by now, and waits for pages.
  bool handed_over = false;
};

// The source's end: it connects.
class SourceTransport {
 public:
  struct Lanes {
    PageExporter* exporter = nullptr;
    PushLane* push = nullptr;
  };
  using Connected = std::function<void(absl::StatusOr<std::unique_ptr<ControlChannel>>)>;
  using LanesOpen = std::function<void(absl::StatusOr<Lanes>)>;

  virtual ~SourceTransport() = default;
  // Opens a control connection and sends `hello` (role kControl, kOutcome or kResume); the peer's
  // answer is the channel's first message. DeadlineExceeded after `timeout_us`.
  virtual void Connect(const Hello& hello, int64_t timeout_us, Connected done) = 0;
  // Opens the demand and the bulk lane and joins them to the migration.
  virtual void OpenLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) = 0;
  virtual uint64_t bytes_wire() const = 0;  // sent and received on all connections; any thread
  // What was packed before it was pushed; nothing where a transport does not pack.
  virtual PackedBytes bytes_packed() const { return {}; }
  virtual std::string name() const = 0;  // "tcp", "tcp+tls"
  // Whether the peer reads memory by itself. What it may read is found out when the exporter is
  // started, beside the save of the devices.
  virtual bool one_sided() const { return false; }
};

// One of several ways that pages are read on.
struct RailFigures {
  std::string address;         // "192.0.2.7:4444"
  uint64_t bytes = 0;          // pushed on it
  uint64_t bytes_written = 0;  // those of them that the source wrote; the others were read
};

// The destination's end: it listens.
class DestinationTransport {
 public:
  struct Lanes {
    PageReader* reader = nullptr;
    PushReceiver* push = nullptr;
  };
  // A connection whose Hello (role kControl, kOutcome or kResume) was well-formed and of a common
  // version. Whether its id and token are right is the listener's to see. The listener answers it
  // (Welcome, or PeerError and close).
  using Arrived = std::function<void(Hello, std::unique_ptr<ControlChannel>)>;
  using LanesOpen = std::function<void(absl::StatusOr<Lanes>)>;

  virtual ~DestinationTransport() = default;
  // Begins to accept. Strangers are turned down by the transport itself. AlreadyExists if the
  // address is taken.
  virtual absl::Status Listen(Arrived arrived) = 0;
  // The address in use, with the real port: "tcp://127.0.0.1:4444".
  virtual std::string address() const = 0;
  // Lanes that come with the terms' id and token join; `done` when both are there or after
  // `timeout_us`.
  virtual void ExpectLanes(const LaneTerms& terms, int64_t timeout_us, LanesOpen done) = 0;
  virtual uint64_t bytes_wire() const = 0;
  // In the order of their naming; empty where pages take no rails. Any thread, once this listens.
  virtual std::vector<RailFigures> rails() const { return {}; }
  virtual std::string name() const = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_SEAMS_TRANSPORT_H_
