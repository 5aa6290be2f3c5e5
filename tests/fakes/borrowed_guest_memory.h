// A session's hold on a FakeGuestMemory that outlives it, as a VM outlives a command.
#ifndef FAULTLINE_TESTS_FAKES_BORROWED_GUEST_MEMORY_H_
#define FAULTLINE_TESTS_FAKES_BORROWED_GUEST_MEMORY_H_

#include "fakes/fake_guest_memory.h"

namespace faultline {

class BorrowedGuestMemory : public GuestMemory {
 public:
  explicit BorrowedGuestMemory(FakeGuestMemory* memory) : memory_(memory) {}
  ~BorrowedGuestMemory() override { memory_->StopEvents(); }

  PageTable& table() override { return memory_->table(); }
  void StartEvents(Listener* listener) override { memory_->StartEvents(listener); }
  void StopEvents() override { memory_->StopEvents(); }
  absl::Status ReadEvents(MemoryEvents* events) override { return memory_->ReadEvents(events); }
  InstallResult Install(PageRun run, std::span<const std::byte> data) override {
    return memory_->Install(run, data);
  }
  InstallResult InstallZeros(PageRun run) override { return memory_->InstallZeros(run); }
  absl::Status Punch(PageRun run) override { return memory_->Punch(run); }
  absl::Status CheckPreCopy() const override { return memory_->CheckPreCopy(); }
  absl::Status Overwrite(PageRun run, std::span<const std::byte> data) override {
    return memory_->Overwrite(run, data);
  }
  absl::Status MakeMissing(PageRun run) override { return memory_->MakeMissing(run); }
  absl::Status Wake(PageRun run) override { return memory_->Wake(run); }
  absl::StatusOr<std::string> Disarm() override { return memory_->Disarm(); }
  std::unique_ptr<HugePageMaker> MakeHugePageMaker() override {
    return memory_->MakeHugePageMaker();
  }

 private:
  FakeGuestMemory* const memory_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_FAKES_BORROWED_GUEST_MEMORY_H_
