#include "engine/install_gate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace faultline {
namespace {

// Plain ints: the thread sanitizer sees it if the gate lets two sides in at once.
TEST(InstallGateTest, NobodyInstallsWhileTheReaderReads) {
  constexpr int kInstallers = 3;
  InstallGate gate;
  int discards = 0;
  std::vector<int> seen(kInstallers, 0);
  std::atomic<bool> stop{false};
  std::vector<std::thread> installers;
  for (int i = 0; i < kInstallers; ++i) {
    installers.emplace_back([&, i] {
      while (!stop.load()) {
        InstallGate::Pass pass(&gate);
        EXPECT_GE(discards, seen[i]);
        seen[i] = discards;
      }
    });
  }
  for (int round = 0; round < 2000; ++round) {
    InstallGate::Closure closure(&gate);
    ++discards;
    for (int& last : seen) EXPECT_LE(last, discards);
  }
  stop = true;
  for (std::thread& installer : installers) installer.join();
  EXPECT_EQ(discards, 2000);
}

TEST(InstallGateTest, InstallersDoNotKeepEachOtherOut) {
  InstallGate gate;
  InstallGate::Pass first(&gate);
  std::thread other([&] { InstallGate::Pass second(&gate); });
  other.join();
}

TEST(InstallGateTest, AClosureWaitsForWhoIsInside) {
  InstallGate gate;
  std::atomic<bool> closed{false};
  auto pass = std::make_unique<InstallGate::Pass>(&gate);
  std::thread reader([&] {
    InstallGate::Closure closure(&gate);
    closed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(closed.load());
  pass.reset();
  reader.join();
  EXPECT_TRUE(closed.load());
}

}  // namespace
}  // namespace faultline
