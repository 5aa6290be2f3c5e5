// A stock QEMU for tests. It never outlives the test process.
#ifndef FAULTLINE_TESTS_SUPPORT_QEMU_PROCESS_H_
#define FAULTLINE_TESTS_SUPPORT_QEMU_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace faultline {

struct QemuTestOptions {
  std::string binary = "qemu-system-x86_64";
  std::string name = "vm";  // for the names of its files
  uint64_t ram_bytes = 32 << 20;
  // The arguments that give it its RAM; empty: one memory-backend-file "ram" on /dev/shm.
  std::vector<std::string> memory_arguments;
  std::vector<std::string> extra_arguments;
  bool incoming = false;      // -incoming defer
  bool start_paused = false;  // -S
  std::string accelerator = "kvm";
};

class QemuProcess {
 public:
  // Starts QEMU and waits until its monitors are there. Must be called by a thread that lives as
  // long as QEMU shall (the kernel ends QEMU with it).
  static absl::StatusOr<std::unique_ptr<QemuProcess>> Start(const QemuTestOptions& options);
  // Kills QEMU and removes its files.
  ~QemuProcess();

  pid_t pid() const { return pid_; }
  const std::string& qmp_path() const { return qmp_path_; }
  // A second monitor, for the test's own questions.
  const std::string& test_qmp_path() const { return test_qmp_path_; }
  const std::string& ram_path() const { return ram_path_; }
  std::string log() const;

  bool running();
  // True if it has ended by then.
  bool WaitForEnd(int64_t timeout_ms);
  void Kill();

 private:
  QemuProcess() = default;

  std::string directory_;
  std::string qmp_path_;
  std::string test_qmp_path_;
  std::string ram_path_;
  std::string log_path_;
  pid_t pid_ = -1;
  bool reaped_ = false;
};

// The QEMUs that tests run on: the system's, and the one that FAULTLINE_QEMU10 names, if any.
std::vector<std::string> QemuBinaries();

}  // namespace faultline

#endif  // FAULTLINE_TESTS_SUPPORT_QEMU_PROCESS_H_
