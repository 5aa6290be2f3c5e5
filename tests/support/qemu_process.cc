#include "support/qemu_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/file_descriptor.h"
#include "base/text.h"

namespace faultline {
namespace {

constexpr int64_t kStartTimeoutMs = 10000;
constexpr std::chrono::milliseconds kPause{2};

std::vector<std::string> Arguments(const QemuTestOptions& options, const std::string& ram_path,
                                   const std::string& qmp, const std::string& test_qmp) {
  std::vector<std::string> all = {options.binary, "-nodefaults", "-display", "none",
                                  "-vga",         "none",        "-accel",   options.accelerator};
  std::vector<std::string> memory = options.memory_arguments;
  if (memory.empty()) {
    memory = {"-m",
              fmt::format("{}M", options.ram_bytes >> 20),
              "-object",
              fmt::format("memory-backend-file,id=ram,size={},mem-path={},share=on",
                          options.ram_bytes, ram_path),
              "-machine",
              "pc,memory-backend=ram"};
  }
  all.insert(all.end(), memory.begin(), memory.end());
  for (const std::string& path : {qmp, test_qmp}) {
    all.insert(all.end(), {"-qmp", fmt::format("unix:{},server=on,wait=off", path)});
  }
  if (options.incoming) all.insert(all.end(), {"-incoming", "defer"});
  if (options.start_paused) all.push_back("-S");
  all.insert(all.end(), options.extra_arguments.begin(), options.extra_arguments.end());
  return all;
}

bool Greets(const std::string& qmp_path) {
  auto socket = ConnectUnix(qmp_path, SOCK_STREAM);
  if (!socket.ok()) return false;
  pollfd ready{socket->get(), POLLIN, 0};
  char first = 0;
  return poll(&ready, 1, 1000) == 1 && read(socket->get(), &first, 1) == 1;
}

[[noreturn]] void RunChild(const std::vector<std::string>& arguments, const std::string& log_path,
                           pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before the line above
  int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<QemuProcess>> QemuProcess::Start(const QemuTestOptions& options) {
  std::unique_ptr<QemuProcess> qemu(new QemuProcess());
  std::string pattern = "/dev/shm/faultline-test-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) return ErrnoStatus(errno, "make a test directory");
  qemu->directory_ = pattern;
  std::string base = pattern + "/" + options.name;
  qemu->qmp_path_ = base + ".qmp";
  qemu->test_qmp_path_ = base + ".test-qmp";
  qemu->ram_path_ = base + ".ram";
  qemu->log_path_ = base + ".log";
  std::vector<std::string> arguments =
      Arguments(options, qemu->ram_path_, qemu->qmp_path_, qemu->test_qmp_path_);
  pid_t parent = getpid();
  qemu->pid_ = fork();
  if (qemu->pid_ < 0) return ErrnoStatus(errno, "fork for QEMU");
  if (qemu->pid_ == 0) RunChild(arguments, qemu->log_path_, parent);
  auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kStartTimeoutMs);
  // Sockets come early; a greeting comes from the main loop, when everything has been made.
  while (!Greets(qemu->test_qmp_path_)) {
    if (!qemu->running() || std::chrono::steady_clock::now() > give_up) {
      return absl::InternalError(fmt::format("QEMU did not start: {}", qemu->log()));
    }
    std::this_thread::sleep_for(kPause);
  }
  return qemu;
}

QemuProcess::~QemuProcess() {
  Kill();
  std::error_code error;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, error);
}

std::string QemuProcess::log() const {
  absl::StatusOr<std::string> text = ReadTextFile(log_path_);
  return text.ok() ? *text : MessageOf(text.status());
}

bool QemuProcess::running() {
  if (reaped_ || pid_ <= 0) return false;
  reaped_ = waitpid(pid_, nullptr, WNOHANG) == pid_;
  return !reaped_;
}

bool QemuProcess::WaitForEnd(int64_t timeout_ms) {
  auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (running()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

void QemuProcess::Kill() {
  if (!running()) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  reaped_ = true;
}

std::vector<std::string> QemuBinaries() {
  std::vector<std::string> binaries = {"qemu-system-x86_64"};
  // Read once, before any thread is started.
  const char* newer = std::getenv("FAULTLINE_QEMU10");
  if (newer != nullptr && *newer != '\0') binaries.emplace_back(newer);
  return binaries;
}

}  // namespace faultline
