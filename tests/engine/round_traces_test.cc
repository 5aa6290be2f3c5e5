// When to switch, on what real guests did (traces/README.md): what the policy was told at each
// look, recorded beyond the switch, so that what came after can be held against what the policy
// expected.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "engine/round_policy.h"

namespace faultline {
namespace {

constexpr double kBytesOfMib = 1 << 20;

uint64_t Bytes(double mib) { return static_cast<uint64_t>(mib * kBytesOfMib); }

// One line of a trace, "1 end 5203.1 5202.0 612.44 180.10 175.02 212.10 35.2".
std::optional<RoundFacts> Parse(const std::string& line) {
  std::istringstream words(line);
  RoundFacts facts;
  std::string where, missing_mib;
  double elapsed_ms = 0, sent_ms = 0, sent_mib = 0, again_mib = 0, left_mib = 0;
  words >> facts.round >> where >> elapsed_ms >> sent_ms >> sent_mib >> again_mib >> left_mib >>
      missing_mib;
  if (!words || (where != "end" && where != "middle")) return std::nullopt;
  facts.ended = where == "end";
  facts.elapsed_us = static_cast<int64_t>(elapsed_ms * 1000);
  facts.sent_us = static_cast<int64_t>(sent_ms * 1000);
  facts.sent_bytes = Bytes(sent_mib);
  facts.again_bytes = Bytes(again_mib);
  facts.left_bytes = Bytes(left_mib);
  // Looked at in the end of a round only.
  if (missing_mib != "-") facts.missing_bytes = Bytes(std::stod(missing_mib));
  return facts;
}

std::vector<RoundFacts> Load(const std::string& name) {
  std::ifstream file(std::string(FAULTLINE_TRACES) + "/" + name + ".txt");
  std::vector<RoundFacts> trace;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::optional<RoundFacts> facts = Parse(line);
    EXPECT_TRUE(facts.has_value()) << name << ": " << line;
    if (facts.has_value()) trace.push_back(*facts);
  }
  EXPECT_FALSE(trace.empty()) << name;
  return trace;
}

struct Switch {
  SwitchReason reason = SwitchReason::kConverged;
  size_t at = 0;  // which look it was
};

std::optional<Switch> Play(MigrationMode mode, const std::vector<RoundFacts>& trace) {
  RoundPolicy policy(mode, {});
  for (size_t i = 0; i < trace.size(); ++i) {
    const std::optional<SwitchReason> reason = policy.Decide(trace[i]);
    if (reason.has_value()) return Switch{*reason, i};
  }
  return std::nullopt;
}

// "no-gain, end of round 4, 81 MiB left".
std::string EndOf(MigrationMode mode, const std::string& guest) {
  const std::vector<RoundFacts> trace = Load(guest + "-" + ModeName(mode));
  const std::optional<Switch> end = Play(mode, trace);
  if (!end.has_value()) return "goes on";
  const RoundFacts& facts = trace[end->at];
  return fmt::format("{}, {} of round {}, {:.0f} MiB left", SwitchReasonName(end->reason),
                     facts.ended ? "end" : "middle", facts.round,
                     static_cast<double>(facts.left_bytes) / kBytesOfMib);
}

const char* const kGuests[] = {"idle", "readmostly", "writelight", "zipf", "writeheavy"};

TEST(RoundTracesTest, HybridGoesOnForAsLongAsRoundsPay) {
  constexpr MigrationMode kMode = MigrationMode::kHybrid;
  EXPECT_EQ(EndOf(kMode, "idle"), "converged, end of round 1, 0 MiB left");
  EXPECT_EQ(EndOf(kMode, "readmostly"), "converged, end of round 2, 1 MiB left");
  EXPECT_EQ(EndOf(kMode, "writelight"), "converged, end of round 4, 1 MiB left");
  EXPECT_EQ(EndOf(kMode, "zipf"), "no-gain, end of round 4, 81 MiB left");
  EXPECT_EQ(EndOf(kMode, "writeheavy"), "no-gain, middle of round 1, 38 MiB left");
}

TEST(RoundTracesTest, PreCopyWaitsForWhatFitsItsDowntimeAndSeesWhereItNeverWill) {
  constexpr MigrationMode kMode = MigrationMode::kPreCopy;
  EXPECT_EQ(EndOf(kMode, "idle"), "converged, end of round 1, 0 MiB left");
  EXPECT_EQ(EndOf(kMode, "readmostly"), "converged, end of round 1, 20 MiB left");
  EXPECT_EQ(EndOf(kMode, "writelight"), "converged, end of round 2, 10 MiB left");
  EXPECT_EQ(EndOf(kMode, "zipf"), "not-converging, end of round 10, 122 MiB left");
  EXPECT_EQ(EndOf(kMode, "writeheavy"), "not-converging, end of round 4, 513 MiB left");
}

// What was recorded after the switch says whether it came too early.
TEST(RoundTracesTest, NoSwitchIsRegretted) {
  for (const char* guest : kGuests) {
    const std::vector<RoundFacts> hybrid = Load(std::string(guest) + "-hybrid");
    const std::optional<Switch> end = Play(MigrationMode::kHybrid, hybrid);
    ASSERT_TRUE(end.has_value()) << guest;
    for (size_t i = end->at + 1; i < hybrid.size() && end->reason == SwitchReason::kNoGain; ++i) {
      if (!hybrid[i].ended || hybrid[i].round == hybrid[end->at].round) continue;
      EXPECT_GT(hybrid[i].left_bytes, hybrid[i].sent_bytes / 2)
          << guest << ": round " << hybrid[i].round << " would have paid";
    }
    const std::vector<RoundFacts> pre_copy = Load(std::string(guest) + "-precopy");
    const std::optional<Switch> stop = Play(MigrationMode::kPreCopy, pre_copy);
    ASSERT_TRUE(stop.has_value()) << guest;
    const int64_t downtime_max_us = PreCopyBudgets{}.downtime_max_us;
    for (size_t i = stop->at + 1; i < pre_copy.size(); ++i) {
      const bool fits = pre_copy[i].sent_us <= downtime_max_us;
      EXPECT_EQ(fits, stop->reason == SwitchReason::kConverged)
          << guest << ": what round " << pre_copy[i].round << " sent";
    }
  }
}

}  // namespace
}  // namespace faultline
