// What a monitor says -> QmpClient and the facts about a VM. A line of the input is the "return" of
// the next answer, its "error" if it begins with '?', or with '!' a message as it stands.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"
#include "fuzz/fuzz_input.h"
#include "pages/memory_layout.h"
#include "vmm/qemu/qmp_client.h"
#include "vmm/qemu/ram_discovery.h"
#include "vmm/qemu/source_rollback.h"
#include "vmm/qemu/vm_checks.h"

namespace faultline {
namespace {

// Listens like a QEMU that has said all before it is asked. A thread, since QmpClient connects and
// talks in one call.
class Monitor {
 public:
  Monitor() : path_("/tmp/faultline_fuzz_qmp." + std::to_string(getpid())) {
    listener_ = FileDescriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path_.data(), path_.size());
    unlink(path_.c_str());
    FAULTLINE_CHECK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
                        0 &&
                    listen(listener_.get(), 1) == 0);
    std::thread([this] { Serve(); }).detach();
    std::atexit([] { unlink(("/tmp/faultline_fuzz_qmp." + std::to_string(getpid())).c_str()); });
  }
  // What the next client gets; then its connection ends.
  const std::string& Say(std::string text) {
    const std::lock_guard lock(mutex_);
    text_ = std::move(text);
    return path_;
  }

 private:
  void Serve() {
    while (true) {
      const FileDescriptor client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::string text;
      {
        const std::lock_guard lock(mutex_);
        text = std::move(text_);
      }
      size_t sent = 0;
      while (sent < text.size()) {
        const ssize_t count =
            send(client.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
        if (count <= 0) break;
        sent += static_cast<size_t>(count);
      }
      shutdown(client.get(), SHUT_WR);
      char ignored[4096];
      while (recv(client.get(), ignored, sizeof(ignored), 0) > 0) {
      }
    }
  }

  const std::string path_;
  FileDescriptor listener_;
  std::mutex mutex_;
  std::string text_;  // guarded by mutex_
};

std::string Script(FuzzInput* input) {
  std::string script =
      "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n{\"return\": {}, \"id\": 1}\n";
  uint64_t id = 2;
  while (!input->empty()) {
    const std::string line = input->TextUpTo('\n');
    if (line.starts_with('!')) {
      script += line.substr(1);
    } else {
      const bool error = line.starts_with('?');
      script += fmt::format("{{\"{}\": {}, \"id\": {}}}", error ? "error" : "return",
                            error ? line.substr(1) : line, id++);
    }
    script += '\n';
  }
  return script;
}

void CheckStatus(const absl::Status& status) {
  FAULTLINE_CHECK(status.ok() || !status.message().empty());
  // The script ends: nobody waits for what does not come.
  FAULTLINE_CHECK(!absl::IsDeadlineExceeded(status));
}

// Whatever the facts are, what is taken for a VM that can be moved has a layout that is valid.
void CheckFacts(VmFacts facts) {
  CheckStatus(CheckFiles(facts));
  const bool fit = CheckSource(facts).ok() || CheckDestination(facts).ok();
  const absl::StatusOr<std::vector<MigratedBlock>> blocks = SelectBlocks(facts);
  CheckStatus(blocks.status());
  FAULTLINE_CHECK(blocks.ok() || !fit);
  if (!blocks.ok()) return;
  MemoryLayout layout;
  for (const MigratedBlock& one : *blocks) {
    layout.push_back({one.block.name, one.block.used_bytes, one.block.page_size_bytes});
  }
  FAULTLINE_CHECK(ValidateLayout(layout).ok());
}

void CheckPlan(const std::string& text) {
  const absl::StatusOr<RollbackPlan> plan = DecodePlan(text);
  if (!plan.ok()) return;
  const absl::StatusOr<RollbackPlan> again = DecodePlan(EncodePlan(*plan));
  FAULTLINE_CHECK(again.ok() && EncodePlan(*again) == EncodePlan(*plan));
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  static Monitor* const monitor = new Monitor;
  FuzzInput input(data, size);
  const uint8_t word = input.U8();
  if (word % 8 == 7) {
    CheckPlan(input.RestAsText());
    return 0;
  }
  const std::string& path = monitor->Say(word % 8 == 6 ? input.RestAsText() : Script(&input));
  absl::StatusOr<std::unique_ptr<QmpClient>> qmp = QmpClient::Connect(path, nullptr);
  CheckStatus(qmp.status());
  if (!qmp.ok()) return 0;
  if (word % 8 == 5) {
    CheckStatus((*qmp)
                    ->WaitForEvent([](const QmpEvent& event) { return event.name == "STOP"; }, 1000,
                                   "a stop")
                    .status());
    return 0;
  }
  const absl::StatusOr<VmFacts> facts = ReadVmFacts(qmp->get());
  CheckStatus(facts.status());
  if (facts.ok()) CheckFacts(*facts);
  return 0;
}
