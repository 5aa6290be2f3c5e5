// One line of `faultline doctor`.
#ifndef FAULTLINE_CLI_DOCTOR_LINE_H_
#define FAULTLINE_CLI_DOCTOR_LINE_H_

#include <cstdint>
#include <string>

namespace faultline {

enum class DoctorLevel : uint8_t { kOk = 1, kWarn = 2, kFail = 3 };

struct DoctorLine {
  std::string subject;  // "userfaultfd"
  DoctorLevel level = DoctorLevel::kOk;
  std::string finding;  // what was found
  std::string mend;     // the sentence that mends it; empty if ok
};

}  // namespace faultline

#endif  // FAULTLINE_CLI_DOCTOR_LINE_H_
