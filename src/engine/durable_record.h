// Making the handover's record outlive the host, beside everything else.
#ifndef FAULTLINE_ENGINE_DURABLE_RECORD_H_
#define FAULTLINE_ENGINE_DURABLE_RECORD_H_

#include "engine/session_report.h"
#include "seams/executor.h"
#include "seams/journal.h"

namespace faultline {

// Runs journal->MakeDurable on `bulk`, and tells `observer` on `control` if it fails. Not on the
// control thread: the peer would take a disk that stalls for a side that is lost.
void MakeDurableBeside(Executor* bulk, Executor* control, Journal* journal,
                       SessionObserver* observer);

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_DURABLE_RECORD_H_
