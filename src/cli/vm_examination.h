// What `faultline doctor --vm` asks of a VM.
#ifndef FAULTLINE_CLI_VM_EXAMINATION_H_
#define FAULTLINE_CLI_VM_EXAMINATION_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "cli/doctor_line.h"

namespace faultline {

// Asks the QEMU behind the monitor socket `qmp_path` whether its VM could move. Changes nothing. An
// error: the monitor did not answer.
absl::StatusOr<std::vector<DoctorLine>> ExamineVm(const std::string& qmp_path);

}  // namespace faultline

#endif  // FAULTLINE_CLI_VM_EXAMINATION_H_
