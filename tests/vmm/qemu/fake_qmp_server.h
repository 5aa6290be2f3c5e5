// A scripted peer at a unix socket, for tests of the monitor client.
#ifndef FAULTLINE_TESTS_VMM_QEMU_FAKE_QMP_SERVER_H_
#define FAULTLINE_TESTS_VMM_QEMU_FAKE_QMP_SERVER_H_

#include <sys/types.h>

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "vmm/qemu/json_fields.h"

namespace faultline {

// Serves one client after the other, and closes the connection after each; then nobody any more.
class FakeQmpServer {
 public:
  // What to send for a command; `id` goes into the answer. Empty: nothing. "close": end.
  using Answer = std::function<std::string(const std::string& command, const std::string& id)>;

  static constexpr const char* kGreeting =
      R"({"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}})"
      "\r\n";

  // Sends `greeting` to its client at once; with `accepts` false it never takes the connection, as
  // a monitor does that serves somebody else.
  FakeQmpServer(std::string greeting, Answer answer, bool accepts = true, int clients_max = 1);
  ~FakeQmpServer();

  const std::string& path() const { return path_; }
  std::vector<Json> requests() const;
  int received_descriptors() const;

 private:
  void Serve();
  // False: the server is to end.
  bool ServeClient();
  bool ServeLine(int client, const std::string& line);

  const std::string greeting_;
  const Answer answer_;
  const int clients_max_;
  std::string directory_;
  std::string path_;
  FileDescriptor listener_;
  mutable std::mutex mutex_;
  std::vector<Json> requests_;  // guarded by mutex_
  int descriptors_ = 0;         // guarded by mutex_
  FileDescriptor stop_read_;
  FileDescriptor stop_write_;
  std::thread thread_;
};

// {"return": {}, "id": ID}
std::string EmptyReturn(const std::string& id);

}  // namespace faultline

#endif  // FAULTLINE_TESTS_VMM_QEMU_FAKE_QMP_SERVER_H_
