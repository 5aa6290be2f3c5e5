// Answers `faultline status`, `faultline cancel` and `faultline postcopy-now` on a unix socket: one
// JSON object a line each way, one request a connection. Only this process's own user and root get
// an answer.
//
//   {"request":"status"}                   -> the state (report_json.h: StateJson)
//   {"request":"cancel","reason":"..."}    -> {"ok":true} or {"ok":false,"error":"..."}
//   {"request":"postcopy-now"}             -> the same
#ifndef FAULTLINE_CLI_STATUS_SERVER_H_
#define FAULTLINE_CLI_STATUS_SERVER_H_

#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/file_descriptor.h"
#include "cli/cancel_switch.h"
#include "cli/status_board.h"

namespace faultline {

class StatusServer {
 public:
  // Serves at `path` on a thread of its own. `board` and `cancel` outlive it.
  static absl::StatusOr<std::unique_ptr<StatusServer>> Start(const std::string& path,
                                                             const StatusBoard* board,
                                                             CancelSwitch* cancel);
  // Stops, and removes the socket.
  ~StatusServer();
  StatusServer(const StatusServer&) = delete;
  StatusServer& operator=(const StatusServer&) = delete;

  // Renames the socket; whoever is connected stays so. Any thread.
  absl::Status MoveTo(const std::string& path);

 private:
  StatusServer(FileDescriptor listener, FileDescriptor stop, std::string path,
               const StatusBoard* board, CancelSwitch* cancel);
  void ThreadMain();
  void ServeClient(int fd);
  std::string Answer(const std::string& request);

  const FileDescriptor listener_;
  const FileDescriptor stop_;
  const StatusBoard* const board_;
  CancelSwitch* const cancel_;
  std::mutex mutex_;
  std::string path_;  // guarded by mutex_
  std::thread thread_;
};

// One request to the socket at `path`, one answer (a line without its end). NotFound or Unavailable
// if no process serves it.
absl::StatusOr<std::string> AskSession(const std::string& path, const std::string& request);

}  // namespace faultline

#endif  // FAULTLINE_CLI_STATUS_SERVER_H_
