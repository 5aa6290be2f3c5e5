// A destination QEMU that this command started.
#ifndef FAULTLINE_CLI_QEMU_PROCESS_H_
#define FAULTLINE_CLI_QEMU_PROCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "cli/qemu_arguments.h"

namespace faultline {

class QemuProcess {
 public:
  // `log_path` gets what QEMU prints.
  static absl::StatusOr<std::unique_ptr<QemuProcess>> Start(const QemuPlan& plan,
                                                            const std::string& log_path);
  // Ends QEMU, unless it was let go.
  ~QemuProcess();
  QemuProcess(const QemuProcess&) = delete;
  QemuProcess& operator=(const QemuProcess&) = delete;

  int pid() const { return pid_; }
  const std::string& log_path() const { return log_path_; }
  // Waits until all `socket_paths` are being listened on. Errors: QEMU ended (with the end of its
  // log), `cancel_fd` became readable, `timeout_ms` ran out.
  absl::Status WaitUntilServing(const std::vector<std::string>& socket_paths, int cancel_fd,
                                int timeout_ms);
  bool HasExited() const;
  // The end of what it printed; empty if it printed nothing.
  std::string LogTail() const;
  // It lives on by itself: the VM is in it.
  void LetGo() { let_go_ = true; }
  bool let_go() const { return let_go_; }

 private:
  QemuProcess(int pid, FileDescriptor pid_fd, std::string log_path);
  std::string SaidSentence() const;

  const int pid_;
  const FileDescriptor pid_fd_;  // readable once it has ended
  const std::string log_path_;
  bool let_go_ = false;
};

}  // namespace faultline

#endif  // FAULTLINE_CLI_QEMU_PROCESS_H_
