#include "vmm/qemu/fake_qmp_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "base/check.h"

namespace faultline {

std::string EmptyReturn(const std::string& id) {
  return fmt::format("{{\"return\": {{}}, \"id\": {}}}\r\n", id);
}

FakeQmpServer::FakeQmpServer(std::string greeting, Answer answer, bool accepts, int clients_max)
    : greeting_(std::move(greeting)), answer_(std::move(answer)), clients_max_(clients_max) {
  std::string pattern = "/tmp/faultline-fake-qmp-XXXXXX";
  FAULTLINE_CHECK(mkdtemp(pattern.data()) != nullptr);
  directory_ = pattern;
  path_ = directory_ + "/qmp";
  listener_ = FileDescriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path_.data(), path_.size());
  FAULTLINE_CHECK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
                  0);
  FAULTLINE_CHECK(listen(listener_.get(), 1) == 0);
  auto stop = MakeSocketPair();
  FAULTLINE_CHECK(stop.ok());
  stop_read_ = std::move(stop->first);
  stop_write_ = std::move(stop->second);
  if (accepts) thread_ = std::thread([this] { Serve(); });
}

FakeQmpServer::~FakeQmpServer() {
  stop_write_.Reset();
  if (thread_.joinable()) thread_.join();
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
}

std::vector<Json> FakeQmpServer::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

int FakeQmpServer::received_descriptors() const {
  std::lock_guard lock(mutex_);
  return descriptors_;
}

void FakeQmpServer::Serve() {
  for (int i = 0; i < clients_max_; ++i) {
    if (!ServeClient()) return;
  }
}

bool FakeQmpServer::ServeClient() {
  std::array<pollfd, 2> fds = {pollfd{listener_.get(), POLLIN, 0},
                               pollfd{stop_read_.get(), POLLIN, 0}};
  poll(fds.data(), fds.size(), -1);
  if (fds[1].revents != 0) return false;
  FileDescriptor client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  fds[0].fd = client.get();
  send(client.get(), greeting_.data(), greeting_.size(), MSG_NOSIGNAL);
  std::string received;
  while (true) {
    poll(fds.data(), fds.size(), -1);
    if (fds[1].revents != 0) return false;
    std::array<char, 4096> chunk;
    iovec part{chunk.data(), chunk.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = recvmsg(client.get(), &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) return true;
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
      int passed = -1;
      memcpy(&passed, CMSG_DATA(header), sizeof(passed));
      close(passed);
      std::lock_guard lock(mutex_);
      ++descriptors_;
    }
    received.append(chunk.data(), static_cast<size_t>(got));
    for (size_t end; (end = received.find('\n')) != std::string::npos;) {
      std::string line = received.substr(0, end);
      received.erase(0, end + 1);
      if (!ServeLine(client.get(), line)) return true;
    }
  }
}

bool FakeQmpServer::ServeLine(int client, const std::string& line) {
  Json request = Json::parse(line, nullptr, false);
  {
    std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }
  std::string command = JsonText(request, "execute");
  std::string id = JsonMember(request, "id").dump();
  std::string answer = command == "qmp_capabilities" ? EmptyReturn(id) : answer_(command, id);
  if (answer == "close") return false;
  return send(client, answer.data(), answer.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(answer.size());
}

}  // namespace faultline
