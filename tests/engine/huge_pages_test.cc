// The destination makes its memory huge again once the migration is complete.

#include <gtest/gtest.h>

#include "engine/migration_rig.h"

namespace faultline {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

class HugePagesTest : public testing::Test {
 protected:
  // The VM's memory gets its script while the last thing of the migration is done.
  void Script(std::vector<HugePageStep> steps) {
    rig_.destination_vmm.OnCall([this, steps](const std::string& name) {
      if (name == "Finish") rig_.guest->ScriptHugePages(steps);
    });
  }

  MigrationRig rig_{{.huge_pages = true}};
};

TEST_F(HugePagesTest, TheReportAddsTheStepsUp) {
  Script({{.bytes_made = 2 * kMiB}, {.notices = {"ram1 is left out"}}, {.bytes_made = 4 * kMiB}});
  rig_.Start();
  ASSERT_TRUE(rig_.RunToEnd());
  rig_.ExpectCompleted();
  rig_.ExpectMemoryMoved();
  ASSERT_TRUE(rig_.destination_result->huge_pages.has_value());
  EXPECT_EQ(rig_.destination_result->huge_pages->bytes, 6 * kMiB);
  EXPECT_FALSE(rig_.destination_result->huge_pages->cut_short);
  EXPECT_TRUE(rig_.destination_observer.Noticed("ram1 is left out"));
  EXPECT_EQ(rig_.destination_observer.phases().back(), Phase::kCompleted);
}

TEST_F(HugePagesTest, TheSourceIsReleasedBefore) {
  Script(std::vector<HugePageStep>(1000, {.bytes_made = 2 * kMiB}));
  rig_.Start();
  ASSERT_TRUE(
      rig_.RunUntil([this] { return rig_.guest != nullptr && rig_.guest->huge_page_steps() > 0; }));
  EXPECT_TRUE(rig_.guest->disarmed());
  EXPECT_TRUE(rig_.destination_journal.Has(JournalPhase::kCompleted));
  EXPECT_EQ(rig_.source_vmm.CountOf("Retire"), 1u);
  EXPECT_FALSE(rig_.destination_result.has_value());
  ASSERT_TRUE(rig_.RunToEnd());
  rig_.ExpectCompleted();
  EXPECT_EQ(rig_.destination_result->huge_pages->bytes, 2000 * kMiB);
}

TEST_F(HugePagesTest, CancellingEndsItAtOnceAndWell) {
  Script(std::vector<HugePageStep>(1000, {.bytes_made = 2 * kMiB}));
  rig_.Start();
  ASSERT_TRUE(rig_.RunUntil(
      [this] { return rig_.guest != nullptr && rig_.guest->huge_page_steps() == 3; }));
  rig_.destination_threads.control.Post([this] { rig_.destination->Cancel("interrupted"); });
  ASSERT_TRUE(rig_.RunToEnd());
  rig_.ExpectCompleted();
  EXPECT_LE(rig_.guest->huge_page_steps(), 5u);
  EXPECT_EQ(rig_.destination_result->huge_pages->bytes, rig_.guest->huge_page_steps() * 2 * kMiB);
  EXPECT_TRUE(rig_.destination_result->huge_pages->cut_short);
}

TEST_F(HugePagesTest, MemoryThatCannotIsLeftAlone) {
  rig_.Start();
  ASSERT_TRUE(rig_.RunToEnd());
  rig_.ExpectCompleted();
  EXPECT_FALSE(rig_.destination_result->huge_pages.has_value());
}

TEST_F(HugePagesTest, AVmThatCouldNotBeStartedIsLeftAlone) {
  Script({{.bytes_made = 2 * kMiB}});
  rig_.destination_vmm.Script("TakeOver", {.status = absl::InternalError("broken")});
  rig_.Start();
  ASSERT_TRUE(rig_.RunToEnd());
  EXPECT_FALSE(rig_.destination_result->status.ok());
  EXPECT_EQ(rig_.guest->huge_page_steps(), 0u);
}

TEST(HugePagesOffTest, NothingIsDoneUnasked) {
  MigrationRig rig;
  rig.destination_vmm.OnCall([&](const std::string& name) {
    if (name == "Finish") rig.guest->ScriptHugePages({{.bytes_made = 2 * kMiB}});
  });
  rig.Start();
  ASSERT_TRUE(rig.RunToEnd());
  rig.ExpectCompleted();
  EXPECT_EQ(rig.guest->huge_page_steps(), 0u);
  EXPECT_FALSE(rig.destination_result->huge_pages.has_value());
}

}  // namespace
}  // namespace faultline
