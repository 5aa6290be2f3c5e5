#include "transport/tcp/crowding.h"

#include <gtest/gtest.h>

#include <vector>

namespace faultline {
namespace {

TEST(CrowdingTest, TheOldestOfTheHostWithMostHasToGo) {
  EXPECT_EQ(WhoHasToGo(std::vector<std::string>{"192.0.2.1:1"}), 0u);
  EXPECT_EQ(WhoHasToGo(std::vector<std::string>{"192.0.2.1:1", "192.0.2.1:2"}), 0u);
  EXPECT_EQ(WhoHasToGo(std::vector<std::string>{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.2:2"}), 1u);
  EXPECT_EQ(
      WhoHasToGo(std::vector<std::string>{"[2001:db8::7]:1", "[2001:db8::8]:1", "[2001:db8::8]:2"}),
      1u);
}

// A flood from one host, however long it lasts, leaves who came alone.
TEST(CrowdingTest, AFloodPushesOutItsOwn) {
  std::vector<std::string> waiting = {"192.0.2.1:1"};
  for (int port = 0; port < 1000; ++port) {
    if (waiting.size() == 32)
      waiting.erase(waiting.begin() + static_cast<int>(WhoHasToGo(waiting)));
    waiting.push_back("192.0.2.9:" + std::to_string(port));
  }
  EXPECT_EQ(waiting.front(), "192.0.2.1:1");
  EXPECT_EQ(waiting.size(), 32u);
}

}  // namespace
}  // namespace faultline
