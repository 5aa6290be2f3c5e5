#include "vmm/qemu/driver_fixture.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <thread>

namespace faultline {

Inspector::Inspector(const QemuProcess& qemu)
    : qmp_(QmpClient::Connect(qemu.test_qmp_path(), nullptr)) {}

Json Inspector::Execute(const std::string& command, const Json& arguments) {
  if (!qmp_.ok()) return Json(MessageOf(qmp_.status()));
  absl::StatusOr<Json> answer = (*qmp_)->Execute(command, arguments);
  return answer.ok() ? *answer : Json(MessageOf(answer.status()));
}

std::string Inspector::Status() {
  Json answer = Execute("query-status");
  return answer.is_string() ? answer.get<std::string>() : JsonText(answer, "status");
}

bool Inspector::Capability(const std::string& name) {
  for (const Json& entry : Execute("query-migrate-capabilities")) {
    if (JsonText(entry, "capability") == name) return JsonFlag(entry, "state");
  }
  return false;
}

uint64_t Inspector::Parameter(const char* name) {
  return JsonNumber(Execute("query-migrate-parameters"), name);
}

std::string WaitForVmStatus(Inspector* inspector, const std::string& status) {
  std::string seen;
  for (int i = 0; i < 500; ++i) {
    seen = inspector->Status();
    if (seen == status) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return seen;
}

int HangUp(const std::string& path) {
  constexpr int kDescriptorsMax = 256;
  int found = 0;
  for (int fd = 0; fd < kDescriptorsMax; ++fd) {
    sockaddr_un peer{};
    socklen_t size = sizeof(peer);
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) < 0) continue;
    if (peer.sun_family != AF_UNIX || path != peer.sun_path) continue;
    found += shutdown(fd, SHUT_RDWR) == 0 ? 1 : 0;
  }
  return found;
}

}  // namespace faultline
