// Installs what the source pushes, before the switch in rounds, each of which takes the place of
// what came before.
//
// Thread safety: lives on the bulk executor's thread.
#ifndef FAULTLINE_ENGINE_BULK_RECEIVER_H_
#define FAULTLINE_ENGINE_BULK_RECEIVER_H_

#include <memory>
#include <optional>
#include <span>

#include "engine/install_gate.h"
#include "engine/transfer.h"
#include "seams/executor.h"
#include "seams/guest_memory.h"
#include "seams/push_lane.h"

namespace faultline {

class BulkReceiver : public PushReceiver::Listener {
 public:
  // All arguments outlive the receiver. `gate` is null where the guest gives no memory back.
  BulkReceiver(Executor* executor, GuestMemory* memory, InstallGate* gate,
               TransferCounters* counters, TransferListener* listener);

  // With `integrity` nothing is put in that is not what the source read.
  void Start(PushReceiver* receiver, bool integrity);
  // Nothing happens after this returns, until the next Start. A run that could not be put in yet is
  // dropped.
  void Stop();

  // Whether rounds may begin from now on; not at first.
  void AllowRounds(bool allowed) { rounds_allowed_ = allowed; }
  // No round begins any more. InvalidArgument: one is under way still; nothing more is taken.
  absl::Status EndRounds();

  bool OnRun(PageRun run, std::span<const std::byte> bytes,
             std::optional<uint64_t> digest) override;
  void OnRoundMark(PageFrameKind mark, uint32_t round) override;
  void OnPushFinished() override;
  void OnReceiverFailed(absl::Status status) override;

 private:
  // Nothing is put in for zero pages: a touch of one gets zeros by its state, and memory that is
  // never touched again takes none of this host's.
  void NoteZeros(PageRun run);
  // Installs the pages of `run` that are missing, a few at a time. Says what stopped it.
  InstallResult InstallMissing(PageRun run, std::span<const std::byte> bytes);
  // Makes the pages of `run` what a round brings, whatever they were. The same if it is done twice.
  InstallResult PutInRound(PageRun run, std::span<const std::byte> bytes);
  absl::Status PutZerosInRound(PageRun run, PageState state);
  InstallResult PutDataInRound(PageRun run, PageState state, std::span<const std::byte> bytes);
  void SetOutOfMemory(bool out);
  void ResumeAfter(int64_t delay_us);

  Executor* const executor_;
  GuestMemory* const memory_;
  InstallGate* const gate_;
  TransferCounters* const counters_;
  TransferListener* const listener_;
  PushReceiver* receiver_ = nullptr;  // null unless started
  bool integrity_ = false;
  bool rounds_allowed_ = false;
  uint32_t round_ = 0;       // under way; 0: none
  uint32_t last_round_ = 0;  // that has ended
  bool out_of_memory_ = false;
  std::unique_ptr<Timer> resume_timer_;
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_BULK_RECEIVER_H_
