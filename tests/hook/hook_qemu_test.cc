// The hook in stock QEMUs, both ways in. FAULTLINE_QEMU10 names a second QEMU (10.x) and
// FAULTLINE_QEMU10_DATA its -L directory.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/text.h"
#include "hook/hook_fixture.h"

namespace faultline {
namespace {

constexpr char kSystemQemu[] = "/usr/bin/qemu-system-x86_64";
constexpr uint64_t kRamBytes = 256 * kMiB;
// Far from what firmware and reset put into RAM.
constexpr uint64_t kUntouchedAddress = 0x2000000;

struct QemuCase {
  std::string name;
  std::string binary;
  std::string data;  // for -L; empty: its own
  bool preload;
  std::string accelerator;
  bool daemonize;
  std::vector<std::string> more;
};

const std::vector<std::string> kSandbox = {
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"};
const std::vector<std::string> kOldUnprivileged = {"-runas", "nobody", "-chroot", "/usr/lib"};
const std::vector<std::string> kUnprivileged = {"-run-with", "user=nobody,chroot=/usr/lib"};

// For failure messages.
std::ostream& operator<<(std::ostream& out, const QemuCase& test) { return out << test.binary; }

std::vector<QemuCase> Cases() {
  std::vector<QemuCase> cases;
  std::vector<std::array<std::string, 3>> qemus = {{"Qemu7", kSystemQemu, ""}};
  const char* newer = getenv("FAULTLINE_QEMU10");
  const char* data = getenv("FAULTLINE_QEMU10_DATA");
  qemus.push_back({"Qemu10", newer ? newer : "", data ? data : ""});
  for (const auto& [name, binary, qemu_data] : qemus) {
    for (bool preload : {false, true}) {
      std::string way = name + (preload ? "Preload" : "Plugin");
      cases.push_back({way + "Kvm", binary, qemu_data, preload, "kvm", false, {}});
      cases.push_back({way + "Tcg", binary, qemu_data, preload, "tcg", false, {}});
      cases.push_back({way + "Daemonize", binary, qemu_data, preload, "kvm", true, {}});
      cases.push_back({way + "Sandbox", binary, qemu_data, preload, "kvm", false, kSandbox});
      // Without root's rights, and without /proc: only the passed device helps.
      cases.push_back({way + "Unprivileged", binary, qemu_data, preload, "kvm", false,
                       name == "Qemu7" ? kOldUnprivileged : kUnprivileged});
    }
  }
  return cases;
}

class HookQemuTest : public HookFixture, public testing::WithParamInterface<QemuCase> {
 protected:
  ~HookQemuTest() override {
    if (daemon_ > 0) kill(daemon_, SIGKILL);
  }

  void SetUp() override {
    if (GetParam().binary.empty()) GTEST_SKIP() << "FAULTLINE_QEMU10 names no QEMU 10 binary";
    if (GetParam().accelerator == "kvm" && access("/dev/kvm", R_OK | W_OK) != 0) {
      GTEST_SKIP() << "/dev/kvm cannot be opened here";
    }
    ram_path_ = scratch_.MakeFile("ram", kRamBytes);
    target_ = std::make_unique<ChildProcess>(Arguments(), Environment());
  }

  std::vector<std::string> Arguments() const {
    const QemuCase& test = GetParam();
    std::string backend = "memory-backend-file,id=ram,share=on,mem-path=" + ram_path_ +
                          ",size=" + std::to_string(kRamBytes);
    std::vector<std::string> arguments = {test.binary,
                                          "-S",
                                          "-nodefaults",
                                          "-display",
                                          "none",
                                          "-accel",
                                          test.accelerator,
                                          "-object",
                                          backend,
                                          "-machine",
                                          "pc,memory-backend=ram",
                                          "-m",
                                          "256",
                                          "-qmp",
                                          "unix:" + QmpPath() + ",server=on,wait=off",
                                          "-pidfile",
                                          PidPath()};
    auto add = [&](std::initializer_list<std::string> more) {
      arguments.insert(arguments.end(), more);
    };
    if (!test.data.empty()) add({"-L", test.data, "-L", "/usr/share/seabios"});
    if (!test.preload) add({"-plugin", HookLibrary() + ",socket=" + socket_path_});
    if (test.daemonize) add({"-daemonize"});
    arguments.insert(arguments.end(), test.more.begin(), test.more.end());
    return arguments;
  }

  std::vector<std::string> Environment() const {
    if (!GetParam().preload) return {};
    // Not FAULTLINE_HOOK_ANY_PROCESS: the hook must know QEMU by itself.
    return {"LD_PRELOAD=" + HookLibrary(), "FAULTLINE_HOOK_SOCKET=" + socket_path_};
  }

  // Waits until QEMU has mapped its RAM and returns the pid of the process that runs the VM.
  pid_t WaitForQemu() {
    pid_t pid = -1;
    WaitFor(20000, [&] {
      pid = atoi(ReadTextFile(PidPath()).value_or("-1").c_str());
      return pid > 0 && std::filesystem::exists(QmpPath()) && std::filesystem::exists(socket_path_);
    });
    // The preloaded hook is there before the RAM is; QEMU's main loop is not.
    EXPECT_NE(AskMonitor("{\"execute\":\"query-status\"}").find("prelaunch"), std::string::npos);
    if (GetParam().daemonize) {
      EXPECT_EQ(target_->Wait(20000), 0) << target_->Errors();
      daemon_ = pid;
    }
    return pid;
  }

  // Asks the monitor and returns its answer to the last command; waits for it without limit.
  std::string AskMonitor(const std::string& command) {
    absl::StatusOr<FileDescriptor> monitor = ConnectUnix(QmpPath(), SOCK_STREAM);
    if (!monitor.ok()) return MessageOf(monitor.status());
    std::string text = "{\"execute\":\"qmp_capabilities\"}\n" + command + "\n";
    if (write(monitor->get(), text.data(), text.size()) < 0) return "";
    std::string answer;
    char buffer[4096];
    // Two "return" lines: of the capabilities and of the command.
    while (answer.find("\"return\"", answer.find("\"return\"") + 1) == std::string::npos) {
      ssize_t count = read(monitor->get(), buffer, sizeof(buffer));
      if (count <= 0) break;
      answer.append(buffer, static_cast<size_t>(count));
    }
    return answer;
  }

  std::string QmpPath() const { return scratch_.path() + "/qmp"; }
  std::string PidPath() const { return scratch_.path() + "/pid"; }

  std::string ram_path_;
  pid_t daemon_ = -1;
};

// The whole life of the hook in QEMU: found, armed, a fault of QEMU's own served, released.
TEST_P(HookQemuTest, ArmsRamAndServesAFault) {
  pid_t qemu = WaitForQemu();
  ASSERT_TRUE(std::filesystem::exists(socket_path_)) << target_->Errors();
  HookClient client = Connect();
  EXPECT_EQ(client.info().process_id, qemu);
  std::string status = ReadTextFile("/proc/" + std::to_string(qemu) + "/status").value_or("");
  bool is_root = status.find("\nUid:\t0\t0\t") != std::string::npos;
  EXPECT_EQ(is_root, !GetParam().name.ends_with("Unprivileged")) << status;
  HookRegionRequest region = RegionOf(ram_path_);
  absl::StatusOr<ArmedRegions> armed = client.Arm(std::vector{region}, MakePageState("state"), 0);
  ASSERT_TRUE(armed.ok()) << armed.status() << target_->Errors();
  ASSERT_EQ(armed->regions.size(), 1u);

  std::string answer;
  std::thread monitor([&] {
    answer = AskMonitor(
        "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"xp /1xb "
        "0x2000000\"}}");
  });
  std::optional<uint64_t> fault = NextFault(armed->uffd, 10000);
  EXPECT_TRUE(fault.has_value());
  if (fault) {
    EXPECT_EQ(*fault / kPage, (armed->regions[0].host_address + kUntouchedAddress) / kPage);
    EXPECT_EQ(InstallPage(armed->uffd, *fault, kPage, 0xa7), 0);
  } else {
    target_->Kill(SIGKILL);
  }
  monitor.join();
  EXPECT_NE(answer.find("0xa7"), std::string::npos) << answer;
  EXPECT_TRUE(client.Release().ok());
}

INSTANTIATE_TEST_SUITE_P(StockQemu, HookQemuTest, testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

class HookQemuRefusalTest : public HookFixture {
 protected:
  // Runs QEMU with `plugin` and returns what it wrote to its standard error when it ended.
  std::string Refusal(const std::string& plugin) {
    ChildProcess qemu({kSystemQemu, "-S", "-machine", "none", "-nodefaults", "-display", "none",
                       "-plugin", HookLibrary() + plugin},
                      {});
    EXPECT_NE(qemu.Wait(20000).value_or(0), 0) << "QEMU must refuse to start";
    return qemu.Errors();
  }
};

TEST_F(HookQemuRefusalTest, SaysWhatIsWrongWithTheArguments) {
  EXPECT_NE(Refusal("").find("socket=PATH"), std::string::npos);
  EXPECT_NE(Refusal(",sock=x").find("unknown argument 'sock=x'"), std::string::npos);
  EXPECT_NE(Refusal(",socket=/nowhere/x").find("cannot bind"), std::string::npos);
}

TEST_F(HookQemuRefusalTest, SaysThatTheSocketIsServedAlready) {
  StartTarget();
  EXPECT_NE(Refusal(",socket=" + socket_path_).find("another process is serving it"),
            std::string::npos);
  EXPECT_EQ(Connect().info().process_id, target_->pid());
}

}  // namespace
}  // namespace faultline
