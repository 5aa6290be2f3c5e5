// What the facts about a host mean for post-copy, and the sentence that mends what is wrong. Pure.
#ifndef FAULTLINE_CLI_DOCTOR_VERDICTS_H_
#define FAULTLINE_CLI_DOCTOR_VERDICTS_H_

#include <vector>

#include "assembly/rdma_examination.h"
#include "assembly/tls_examination.h"
#include "cli/doctor_line.h"
#include "cli/host_facts.h"

namespace faultline {

// One line for each subject, in a fixed order. kFail: post-copy is not possible here.
std::vector<DoctorLine> JudgeHost(const HostFacts& facts);

// About certificates; never kFail, since a migration can do without.
DoctorLine JudgeTls(const TlsFacts& facts);

// About RDMA devices; never kFail, since a migration can do without.
DoctorLine JudgeRdma(const RdmaFacts& facts);

// No line is kFail.
bool PostCopyPossible(const std::vector<DoctorLine>& lines);

}  // namespace faultline

#endif  // FAULTLINE_CLI_DOCTOR_VERDICTS_H_
