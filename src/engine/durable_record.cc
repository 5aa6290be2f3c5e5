#include "engine/durable_record.h"

namespace faultline {

void MakeDurableBeside(Executor* bulk, Executor* control, Journal* journal,
                       SessionObserver* observer) {
  bulk->Post([=] {
    const absl::Status durable = journal->MakeDurable();
    if (durable.ok()) return;
    control->Post([observer, durable] {
      observer->OnNotice("the handover's record does not survive this host's crash: " +
                         MessageOf(durable));
    });
  });
}

}  // namespace faultline
