#include "cli/qemu_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

QemuPlanInput Input(std::vector<std::string> command) {
  QemuPlanInput input;
  input.command = std::move(command);
  input.help_text = "-S  freeze\n-incoming defer\n-plugin [file=]<file>\n";
  input.hook_library = "/lib/hook.so";
  input.qmp_path = "/run/a,b.qmp";
  input.hook_path = "/run/a.hook";
  return input;
}

TEST(QemuArgumentsTest, AddsWhatIsMissingAndEscapesCommas) {
  absl::StatusOr<QemuPlan> plan = PlanQemu(Input({"qemu", "-m", "1G"}));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->command, ElementsAre("qemu", "-m", "1G", "-incoming", "defer", "-qmp",
                                         "unix:/run/a,,b.qmp,server=on,wait=off", "-plugin",
                                         "/lib/hook.so,socket=/run/a.hook"));
  EXPECT_THAT(plan->environment, IsEmpty());
}

TEST(QemuArgumentsTest, KeepsAnIncomingDefer) {
  absl::StatusOr<QemuPlan> plan = PlanQemu(Input({"qemu", "--incoming", "defer"}));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->command.size(), 7u);
}

TEST(QemuArgumentsTest, PreloadsWhereThereAreNoPlugins) {
  QemuPlanInput input = Input({"qemu"});
  input.help_text = "-incoming defer\n";
  input.preload = "/lib/other.so";
  absl::StatusOr<QemuPlan> plan = PlanQemu(input);
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->environment, ElementsAre("LD_PRELOAD=/lib/hook.so:/lib/other.so",
                                             "FAULTLINE_HOOK_SOCKET=/run/a.hook"));
}

TEST(QemuArgumentsTest, RefusesWhatCannotBeADestination) {
  struct Case {
    std::vector<std::string> command;
    const char* sentence;
  };
  for (const Case& bad :
       {Case{{}, "no program"}, Case{{"qemu", "-incoming", "tcp:0:1"}, "-incoming tcp:0:1"},
        Case{{"qemu", "-incoming"}, "'-incoming '"}, Case{{"qemu", "-daemonize"}, "-daemonize"},
        Case{{"qemu", "-plugin", "/x/faultline-qemu.so,socket=/s"}, "itself"}}) {
    absl::Status status = CheckQemuCommand(bad.command);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(status.message(), HasSubstr(bad.sentence));
  }
  QemuPlanInput input = Input({"ls"});
  input.help_text = "Usage: ls";
  EXPECT_THAT(PlanQemu(input).status().message(), HasSubstr("no QEMU"));
}

}  // namespace
}  // namespace faultline
