// What RDMA this host has, for `faultline doctor`.
#ifndef FAULTLINE_ASSEMBLY_RDMA_EXAMINATION_H_
#define FAULTLINE_ASSEMBLY_RDMA_EXAMINATION_H_

#include <string>
#include <vector>

namespace faultline {

struct RdmaFacts {
  bool built_in = false;
  std::vector<std::string> ports;  // each in words: "mlx5_0 port 1: active, Ethernet, ..."
  bool any_active = false;
};

// Looks; changes nothing.
RdmaFacts ExamineRdma();

}  // namespace faultline

#endif  // FAULTLINE_ASSEMBLY_RDMA_EXAMINATION_H_
