// The GuestMemory contract on userfaultfd over each kind of RAM, and on the fake.
#include "contract/guest_memory_contract.h"

#include "fakes/fake_guest_memory.h"
#include "memory/guest_mapping.h"

namespace faultline {
namespace {

class FakeHarness : public GuestMemoryHarness {
 public:
  GuestMemory& memory() override { return memory_; }
  PollLoop& loop() override { return loop_; }
  std::future<std::vector<std::byte>> Touch(PageId page) override {
    auto promise = std::make_shared<std::promise<std::vector<std::byte>>>();
    memory_.Touch(page,
                  [promise](const std::vector<std::byte>& bytes) { promise->set_value(bytes); });
    return promise->get_future();
  }
  std::future<void> Discard(PageRun run) override {
    auto promise = std::make_shared<std::promise<void>>();
    memory_.DiscardByGuest(run, [promise] { promise->set_value(); });
    return promise->get_future();
  }
  bool tells_discards() const override { return true; }
  bool punches() const override { return true; }

 private:
  PollLoop loop_;
  FakeGuestMemory memory_{{{"ram0", 64 * 4096, 4096}, {"ram1", 64 * 4096, 4096}}, &loop_};
};

std::function<std::unique_ptr<GuestMemoryHarness>()> MakeUffd(RamKind kind) {
  return [kind] { return std::make_unique<UffdHarness>(kind); };
}

INSTANTIATE_TEST_SUITE_P(
    All, GuestMemoryContract,
    testing::Values(GuestMemoryCase{"Tmpfs", MakeUffd(RamKind::kTmpfs)},
                    GuestMemoryCase{"Memfd", MakeUffd(RamKind::kMemfd)},
                    GuestMemoryCase{"Anonymous", MakeUffd(RamKind::kAnonymous)},
                    GuestMemoryCase{"Hugetlb", MakeUffd(RamKind::kHugetlb)},
                    GuestMemoryCase{"Fake", [] { return std::make_unique<FakeHarness>(); }}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace faultline
