// With rdma:// a session keeps its rights: the kernel refuses a device to threads whose rights
// changed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <fstream>
#include <string>
#include <vector>

#include "assembly/confinement.h"

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The lines of this thread's status that a confinement changes.
std::string Rights() {
  std::ifstream status("/proc/thread-self/status");
  std::string rights = prctl(PR_GET_DUMPABLE) == 1 ? "dumpable\n" : "not dumpable\n";
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Cap") || line.starts_with("NoNewPrivs") || line.starts_with("Seccomp")) {
      rights += line + "\n";
    }
  }
  return rights;
}

TEST(RdmaConfinementTest, NothingIsGivenUpAndOneNoticeSaysSo) {
  for (ConfinedSide side : {ConfinedSide::kSource, ConfinedSide::kDestination}) {
    SessionLoops loops(0);
    const std::string before = Rights();
    std::vector<std::string> notices;
    Confinement confinement({.on = true, .side = side, .rdma = true}, &loops);
    confinement.BeginSetUp([&](const std::string& text) { notices.push_back(text); });
    confinement.EndPreparing();
    confinement.HoldMemory();
    EXPECT_EQ(Rights(), before);
    EXPECT_THAT(notices, ElementsAre(HasSubstr("with rdma:// this command keeps its rights")));
  }
}

TEST(RdmaConfinementTest, WhoKeepsEverythingAnywayHearsNothing) {
  SessionLoops loops(0);
  Confinement confinement({.on = false, .rdma = true}, &loops);
  confinement.BeginSetUp([](const std::string& text) { ADD_FAILURE() << text; });
}

}  // namespace
}  // namespace faultline
