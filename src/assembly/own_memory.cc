#include "assembly/own_memory.h"

#include <utility>

#include "memory/local_armer.h"
#include "memory/uffd_guest_memory_factory.h"

namespace faultline {
namespace {

class OwnMemoryFactory : public GuestMemoryFactory {
 public:
  OwnMemoryFactory(FdPoller* poller, FileDescriptor userfaultfd)
      : armer_(std::move(userfaultfd)), factory_(&armer_, poller, {}) {}

  absl::Status Check(const VmDescription& vm) override { return factory_.Check(vm); }
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& vm) override {
    return factory_.Arm(vm);
  }

 private:
  LocalArmer armer_;
  UffdGuestMemoryFactory factory_;
};

}  // namespace

std::unique_ptr<GuestMemoryFactory> MakeOwnMemory(Executor*, FdPoller* poller,
                                                  FileDescriptor userfaultfd) {
  return std::make_unique<OwnMemoryFactory>(poller, std::move(userfaultfd));
}

}  // namespace faultline
