// A process with the hook preloaded, and the files around it.
#ifndef FAULTLINE_TESTS_HOOK_HOOK_FIXTURE_H_
#define FAULTLINE_TESTS_HOOK_HOOK_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "hook/child_process.h"
#include "hook/fault_server.h"
#include "memory/hook_client.h"

namespace faultline {

inline constexpr int kTimeoutMs = 5000;
inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kMiB = 1024 * 1024;

// The paths come from the build by HOOK_LIBRARY and HOOK_TARGET (environment).
inline std::string HookLibrary() { return getenv("HOOK_LIBRARY"); }
inline std::string HookTarget() { return getenv("HOOK_TARGET"); }

class HookFixture : public testing::Test {
 protected:
  HookFixture() : socket_path_(scratch_.path() + "/hook") {}

  std::vector<std::string> PreloadEnvironment() const {
    return {"LD_PRELOAD=" + HookLibrary(), "FAULTLINE_HOOK_SOCKET=" + socket_path_,
            "FAULTLINE_HOOK_ANY_PROCESS=1"};
  }

  // Starts the target with the hook in it and waits for its socket.
  void StartTarget() {
    target_ = std::make_unique<ChildProcess>(std::vector<std::string>{HookTarget()},
                                             PreloadEnvironment());
    ASSERT_NE(target_->Ask("pid"), "");
  }

  // Makes a tmpfs file and lets the target map it whole.
  HookRegionRequest MapFile(const std::string& name, uint64_t size_bytes,
                            const std::string& kind = "shared") {
    std::string path = scratch_.MakeFile(name, size_bytes);
    Map(path, 0, size_bytes, kind);
    HookRegionRequest region = RegionOf(path);
    region.name = name;
    return region;
  }

  void Map(const std::string& path, uint64_t offset, uint64_t size_bytes, const std::string& kind) {
    std::string answer = target_->Ask("map " + path + " " + std::to_string(offset) + " " +
                                      std::to_string(size_bytes) + " " + kind);
    ASSERT_EQ(answer.substr(0, 6), "mapped") << answer;
  }

  HookClient Connect() {
    absl::StatusOr<HookClient> client = HookClient::Connect(socket_path_, kTimeoutMs);
    if (!client.ok()) {
      ADD_FAILURE() << client.status();
      abort();
    }
    return std::move(client).value();
  }

  ScratchDirectory scratch_;
  std::string socket_path_;
  std::unique_ptr<ChildProcess> target_;
};

}  // namespace faultline

#endif  // FAULTLINE_TESTS_HOOK_HOOK_FIXTURE_H_
