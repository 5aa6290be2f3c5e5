// Memory of this very process, for the C ABI.
#ifndef FAULTLINE_ASSEMBLY_OWN_MEMORY_H_
#define FAULTLINE_ASSEMBLY_OWN_MEMORY_H_

#include <memory>

#include "base/file_descriptor.h"
#include "seams/executor.h"
#include "seams/guest_memory.h"

namespace faultline {

class FdPoller;

// Arms regions by their addresses in this process, with `userfaultfd` if it is valid, else with one
// that it makes.
std::unique_ptr<GuestMemoryFactory> MakeOwnMemory(Executor* demand, FdPoller* poller,
                                                  FileDescriptor userfaultfd);

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_OWN_MEMORY_H_
