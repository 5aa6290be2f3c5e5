// Answers the guest's touches of missing pages.
//
// It reads the memory's events, fetches what is missing over the demand lane, and installs it. The
// page's state decides what a fault gets, not the event alone: missing is fetched, or awaited where
// the push is bringing it already; absent, discarded and installed-but-gone-again are zero.
//
// Thread safety: lives on the demand executor's thread.
#ifndef FAULTLINE_ENGINE_FAULT_HANDLER_H_
#define FAULTLINE_ENGINE_FAULT_HANDLER_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/install_gate.h"
#include "engine/read_around.h"
#include "engine/transfer.h"
#include "seams/executor.h"
#include "seams/guest_memory.h"
#include "seams/page_reader.h"

namespace faultline {

class FaultHandler : public GuestMemory::Listener, public PageReader::Listener {
 public:
  // All arguments outlive the handler. `gate` is null where the guest gives no memory back.
  FaultHandler(Executor* executor, GuestMemory* memory, InstallGate* gate,
               TransferCounters* counters, TransferListener* listener, ReadAround around);

  // Begins to read events. What they need of the source waits until there is a reader.
  void Start();
  // Asks `reader` from now on, first for all that somebody waits for and that was asked for in
  // vain. The allocation map may still be on its way: a page that it will call absent is fetched,
  // and comes as zeros. With `integrity` nothing is put in that is not what the source read.
  void Connect(PageReader* reader, bool integrity);
  // The demand lane is no more: stops the reader. Faults are read on, and wait for the next one.
  void Disconnect();
  // Pages that were sent before the switch are old: they are missing again. Before the VM is
  // loaded.
  absl::Status MakeMissing(std::span<const PageRun> runs);
  // The source pushes nothing more: asks for every page that is missing still.
  void FetchRest();
  // Every page is present: ends fault handling for good. Who waits is woken. The demand lane stays
  // open until Stop, so that the source does not take its end for a failure. Returns what
  // GuestMemory::Disarm does.
  absl::StatusOr<std::string> Disarm();
  // Nothing happens after this returns. Memory stays armed, so that no hole turns into zeros.
  void Stop();

  void OnEventsReady() override;
  void OnPage(PageId page, std::span<const std::byte> bytes,
              std::optional<uint64_t> digest) override;
  void OnReaderFailed(absl::Status status) override;

 private:
  // What could not be done at once: a fault to look at again, or an answer to put in.
  struct Deferred {
    PageId page;
    bool answered = false;
    std::vector<std::byte> bytes;  // of the answer; empty: zeros
  };

  // A page that the push is bringing: it is asked for only if it has not come until then.
  struct Awaited {
    PageId page;
    int64_t until_ns = 0;
  };

  // A page that was asked for: when each stage was reached; 0: not yet.
  struct Request {
    int64_t read_ns = 0;  // kNobodyWaits: no fault asks for it
    int64_t sent_ns = 0;
    int64_t answered_ns = 0;
  };

  bool ReadEvents();
  void AnswerWhoAskedInVain();
  void Drain();
  void ApplyDiscard(PageRun run);
  void AnswerFaults(std::span<const PageId> pages);
  void Fetch(PageId page);
  void FetchAround(PageId page);
  // Whether the push is bringing it just now; then it is looked after, and not to be asked for.
  bool Await(PageId page);
  void LookAtAwaited();
  void EndAwait(PageId page);
  void FetchMore();
  void AnswerFault(PageId page);
  // Puts `bytes` (or zeros) into `page`, whatever its state asks for. False: to be tried again.
  bool Install(PageId page, std::span<const std::byte> bytes);
  void SetFailed(const absl::Status& status);
  bool IsDeferredAnswer(PageId page) const;
  void Settle(PageId page, bool was_missing);
  void Defer(Deferred deferred);
  void RetryDeferred();
  void SendWanted();
  void RecordStages(const Request& request);
  void SetOutOfMemory(bool out);

  Executor* const executor_;
  GuestMemory* const memory_;
  InstallGate* const gate_;
  TransferCounters* const counters_;
  TransferListener* const listener_;
  const uint64_t page_bytes_min_;  // of all regions
  ReadAround around_;

  bool started_ = false;
  PageReader* reader_ = nullptr;  // null unless connected
  bool integrity_ = false;
  bool reader_failed_ = false;
  bool failed_ = false;  // the memory: nothing is read or installed any more
  bool out_of_memory_ = false;
  bool disarmed_ = false;
  MemoryEvents events_;         // reused
  std::vector<PageId> wanted_;  // reused: what the current round asks for
  absl::flat_hash_map<PageId, Request, PageIdHash> in_flight_;  // reserved: no allocation a fault
  std::vector<Deferred> deferred_;
  std::unique_ptr<Timer> retry_timer_;
  std::vector<Awaited> awaited_;           // reserved; in the order of the touches
  std::unique_ptr<Alarm> await_alarm_;     // null unless started
  uint64_t missed_position_ = UINT64_MAX;  // of the push, when a page was awaited in vain
  int64_t answer_ns_ = 0;  // from a request to its answer, on average of late; 0: not known
  bool fetching_rest_ = false;
  PageId rest_cursor_;  // everything before it has been asked for
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_FAULT_HANDLER_H_
