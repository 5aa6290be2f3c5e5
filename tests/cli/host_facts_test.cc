#include "cli/host_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>

#include "cli/hook_library.h"

namespace faultline {
namespace {

using ::testing::HasSubstr;

TEST(HostFactsTest, TellsWhatThisHostHas) {
  HostFacts facts = GatherHostFacts("", "");
  EXPECT_NE(facts.kernel_release, "");
  EXPECT_EQ(facts.userfaultfd_call_errno, 0);
  EXPECT_NE(facts.userfaultfd_features & UFFD_FEATURE_MISSING_SHMEM, 0u);
  EXPECT_EQ(facts.shm_file_system, "tmpfs");
  EXPECT_GT(facts.shm_size_bytes, 0u);
  EXPECT_GE(facts.shm_size_bytes, facts.shm_free_bytes);
  EXPECT_NE(facts.shmem_enabled, "");
  EXPECT_FALSE(facts.huge_pages.empty());
  EXPECT_THAT(facts.qemu_version, HasSubstr("QEMU emulator version"));
  EXPECT_TRUE(facts.qemu_has_plugins);
  EXPECT_GT(facts.memlock_bytes, 0u);
}

TEST(HostFactsTest, SaysWhyAProgramIsNoQemu) {
  EXPECT_THAT(GatherHostFacts("/no/such", "").qemu_error, HasSubstr("No such file"));
  EXPECT_THAT(GatherHostFacts("/bin/false", "").qemu_error, HasSubstr("/bin/false --version"));
}

TEST(HookLibraryTest, NamesWhatWasTried) {
  EXPECT_THAT(FindHookLibrary("/no/such.so").status().message(), HasSubstr("/no/such.so"));
  absl::StatusOr<std::string> chosen = FindHookLibrary("/bin/../bin/sh");
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ((*chosen)[0], '/');
  EXPECT_THAT(*chosen, testing::Not(HasSubstr("..")));
}

}  // namespace
}  // namespace faultline
