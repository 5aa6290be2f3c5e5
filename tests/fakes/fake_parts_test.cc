// What fakes do beyond the contracts of their seams: the faults that simulations draw.

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "fakes/fake_guest_memory.h"
#include "fakes/fake_network.h"
#include "fakes/fake_source_memory.h"
#include "fakes/fake_vmm.h"
#include "fakes/manual_executor.h"

namespace faultline {
namespace {

using Bytes = FakeSocket::Bytes;

class FakeNetworkTest : public testing::Test {
 protected:
  FakeNetworkTest() {
    EXPECT_TRUE(network_
                    .Listen(&far_,
                            [this](std::unique_ptr<FakeSocket> socket) {
                              socket->Receive(
                                  &far_,
                                  [this](const Bytes& bytes) {
                                    arrived_.push_back(std::to_integer<int>(bytes[0]));
                                  },
                                  [](const absl::Status&) {});
                              accepted_.push_back(std::move(socket));
                            })
                    .ok());
  }

  ManualClock clock_;
  ManualExecutor far_{&clock_};
  FakeNetwork network_{&clock_};
  std::vector<std::unique_ptr<FakeSocket>> accepted_;
  std::vector<int> arrived_;
};

TEST_F(FakeNetworkTest, OneRoleIsStalledOneWayForAWhile) {
  auto demand = network_.Connect(ConnectionRole::kDemand);
  auto bulk = network_.Connect(ConnectionRole::kBulk);
  network_.StallUntil(ConnectionRole::kDemand, 1, clock_.now_ns() + 1'000'000);
  auto later = network_.Connect(ConnectionRole::kDemand);
  demand->Send(Bytes(1, std::byte{1}));
  bulk->Send(Bytes(1, std::byte{2}));
  later->Send(Bytes(1, std::byte{3}));
  clock_.AdvanceBy(900);
  EXPECT_EQ(arrived_, std::vector<int>{2});
  clock_.AdvanceBy(200);
  EXPECT_EQ(arrived_, (std::vector<int>{2, 1, 3}));
}

TEST_F(FakeNetworkTest, PiecesThatTakeLongerStayInOrder) {
  network_.set_extra_delay_us(
      [delay_us = 500](ConnectionRole, int) mutable { return std::exchange(delay_us, 0); });
  auto one = network_.Connect(ConnectionRole::kDemand);
  auto other = network_.Connect(ConnectionRole::kBulk);
  one->Send(Bytes(1, std::byte{1}));
  one->Send(Bytes(1, std::byte{2}));
  other->Send(Bytes(1, std::byte{3}));
  clock_.AdvanceBy(1'000);
  EXPECT_EQ(arrived_, (std::vector<int>{3, 1, 2}));
}

TEST(FakeGuestMemoryTest, WordsOfPagesThatAreThere) {
  ManualClock clock;
  ManualExecutor executor(&clock);
  FakeGuestMemory memory({{"ram", 2 * 4096, 4096}}, &executor);
  EXPECT_EQ(memory.ReadWord({0, 1}, 3), std::nullopt);
  EXPECT_FALSE(memory.WriteWord({0, 1}, 3, 7));
  memory.InstallZeros({0, 1, 1});
  EXPECT_TRUE(memory.WriteWord({0, 1}, 3, 7));
  EXPECT_EQ(memory.ReadWord({0, 1}, 3), 7u);
  EXPECT_EQ(memory.ReadWord({0, 1}, 2), 0u);
}

// Between the two halves of a discard an installer is not kept out.
TEST(FakeGuestMemoryTest, APageCanComeBetweenPunchAndReport) {
  ManualClock clock;
  ManualExecutor executor(&clock);
  FakeGuestMemory memory({{"ram", 2 * 4096, 4096}}, &executor);
  const std::vector<std::byte> page(4096, std::byte{5});
  memory.PunchByVmm({0, 0, 1});
  EXPECT_EQ(memory.Install({0, 0, 1}, page).outcome, InstallOutcome::kDone);
  bool returned = false;
  memory.ReportDiscard({0, 0, 1}, [&] { returned = true; });
  EXPECT_EQ(memory.Install({0, 1, 1}, page).outcome, InstallOutcome::kRetry);
  EXPECT_FALSE(returned);
  MemoryEvents events;
  EXPECT_TRUE(memory.ReadEvents(&events).ok());
  EXPECT_TRUE(returned);
  EXPECT_EQ(events.discards, (std::vector<PageRun>{{0, 0, 1}}));
  EXPECT_TRUE(memory.IsPresent({0, 0}));
}

TEST(FakeSourceMemoryTest, AWrittenWordMakesAPageOfData) {
  FakeSourceMemory memory({{"ram", 2 * 4096, 4096}});
  memory.WriteWord({0, 1}, 2, 0);
  EXPECT_TRUE(memory.ReadAllocationMap().value()[0].Contains(1));
  EXPECT_FALSE(memory.ReadAllocationMap().value()[0].Contains(0));
  memory.WriteWord({0, 1}, 2, 9);
  EXPECT_EQ(memory.ReadWord({0, 1}, 2), 9u);
}

TEST(FakeVmmTest, ADeadVmmFailsEverything) {
  ManualClock clock;
  ManualExecutor control(&clock);
  FakeVm vm;
  vm.runs_on_source = false;
  FakeDestinationVmm vmm(&control, &vm, {});
  std::vector<absl::StatusCode> ends;
  auto done = [&](const absl::Status& status) { ends.push_back(status.code()); };
  vmm.TakeOver(true, done);
  EXPECT_EQ(vmm.under_way(), "TakeOver");
  vmm.Die(absl::UnavailableError("gone"));
  clock.AdvanceBy(1'000);
  vmm.Finish(done);
  clock.AdvanceBy(1'000);
  EXPECT_EQ(ends, std::vector<absl::StatusCode>(2, absl::StatusCode::kUnavailable));
  EXPECT_FALSE(vm.runs_on_destination);
  EXPECT_EQ(vmm.under_way(), "");
}

}  // namespace
}  // namespace faultline
