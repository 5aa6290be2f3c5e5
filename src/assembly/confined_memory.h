// Factories of a VM's memory that tell the confinement how far the session is: they are what both
// sessions ask, on the control thread, between the last program that is started and the first byte
// of a peer.
#ifndef FAULTLINE_ASSEMBLY_CONFINED_MEMORY_H_
#define FAULTLINE_ASSEMBLY_CONFINED_MEMORY_H_

#include <memory>
#include <utility>

#include "assembly/confinement.h"
#include "seams/guest_memory.h"
#include "seams/source_memory.h"

namespace faultline {

class ConfinedSourceMemoryFactory final : public SourceMemoryFactory {
 public:
  ConfinedSourceMemoryFactory(SourceMemoryFactory* factory, Confinement* confinement)
      : factory_(factory), confinement_(confinement) {}

  absl::StatusOr<std::unique_ptr<SourceMemory>> Open(const VmDescription& vm) override {
    absl::StatusOr<std::unique_ptr<SourceMemory>> memory = factory_->Open(vm);
    confinement_->EndPreparing();
    confinement_->HoldMemory();
    return memory;
  }

 private:
  SourceMemoryFactory* const factory_;
  Confinement* const confinement_;
};

class ConfinedGuestMemoryFactory final : public GuestMemoryFactory {
 public:
  ConfinedGuestMemoryFactory(std::unique_ptr<GuestMemoryFactory> factory, Confinement* confinement)
      : factory_(std::move(factory)), confinement_(confinement) {}

  absl::Status Check(const VmDescription& vm) override {
    confinement_->EndPreparing();
    return factory_->Check(vm);
  }
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& vm) override {
    absl::StatusOr<std::unique_ptr<GuestMemory>> memory = factory_->Arm(vm);
    confinement_->HoldMemory();
    return memory;
  }
  absl::StatusOr<std::unique_ptr<GuestMemory>> TakeOver(const VmDescription& vm) override {
    confinement_->EndPreparing();
    absl::StatusOr<std::unique_ptr<GuestMemory>> memory = factory_->TakeOver(vm);
    confinement_->HoldMemory(/*listens_later=*/true);
    return memory;
  }

 private:
  const std::unique_ptr<GuestMemoryFactory> factory_;
  Confinement* const confinement_;
};

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_CONFINED_MEMORY_H_
