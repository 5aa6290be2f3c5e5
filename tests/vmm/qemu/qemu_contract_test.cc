// The QEMU drivers held to the VMM contract, on stock QEMUs. No guest is needed: its firmware runs.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "contract/loop_vmm_world.h"
#include "contract/vmm_contract.h"
#include "vmm/qemu/driver_fixture.h"

namespace faultline::contract {
namespace {

class QemuVmmWorld : public LoopVmmWorld {
 public:
  QemuVmmWorld(std::string binary, FreezePoint point)
      : binary_(std::move(binary)), freeze_point_(point) {}
  ~QemuVmmWorld() override {
    RunOnControl([&] {
      source_.reset();
      destination_.reset();
    });
  }

  bool MakeSource(bool running) override {
    RunOnControl([&] { source_.reset(); });
    from_ = Start("from", false);
    if (from_ == nullptr) return false;
    from_monitor_ = std::make_unique<Inspector>(*from_);
    if (!running) from_monitor_->Execute("stop");
    RunOnControl([&] {
      source_ = std::make_unique<QemuSourceVmm>(QemuSourceOptions{from_->qmp_path(), ""}, &loop_);
    });
    return true;
  }
  bool MakeDestination() override {
    RunOnControl([&] { destination_.reset(); });
    to_ = Start("to", true);
    if (to_ == nullptr) return false;
    to_monitor_ = std::make_unique<Inspector>(*to_);
    RunOnControl([&] {
      destination_ = std::make_unique<QemuDestinationVmm>(
          QemuDestinationOptions{to_->qmp_path(), nullptr}, &loop_);
    });
    return true;
  }
  SourceVmm& source() override { return *source_; }
  DestinationVmm& destination() override { return *destination_; }
  FreezePoint freeze_point() const override { return freeze_point_; }
  void DropSource() override { source_.reset(); }
  void DropDestination() override { destination_.reset(); }

  bool RunsAtSource() override { return from_monitor_->Status() == "running"; }
  bool RunsAtDestination() override { return to_monitor_->Status() == "running"; }
  bool DestinationIsGone() override { return !to_->running(); }
  std::string SourceSettings() override {
    const Json ask = {{"path", "/objects/ram"}, {"property", "discard-data"}};
    return from_monitor_->Execute("query-migrate-capabilities").dump() +
           from_monitor_->Execute("query-migrate-parameters").dump() +
           from_monitor_->Execute("qom-get", ask).dump();
  }

  void BreakSource() override { from_->Kill(); }
  void SpoilSave() override { from_monitor_->Execute("migrate_cancel"); }
  std::vector<std::byte> SpoilState(std::vector<std::byte> state) override {
    std::fill(state.begin() + static_cast<ptrdiff_t>(state.size() / 2), state.end(),
              std::byte{0xee});
    return state;
  }
  void CarryMemory() override {
    // Over the file that QEMU has mapped, as long as the VM stands still on both sides.
    FileDescriptor input(open(from_->ram_path().c_str(), O_RDONLY | O_CLOEXEC));
    FileDescriptor output(open(to_->ram_path().c_str(), O_WRONLY | O_CLOEXEC));
    std::vector<std::byte> buffer(1 << 20);
    ssize_t got = 0;
    while ((got = read(input.get(), buffer.data(), buffer.size())) > 0) {
      ASSERT_EQ(write(output.get(), buffer.data(), static_cast<size_t>(got)), got);
    }
    ASSERT_EQ(got, 0);
  }

 private:
  std::unique_ptr<QemuProcess> Start(const std::string& name, bool incoming) {
    auto qemu = QemuProcess::Start({.binary = binary_,
                                    .name = name,
                                    .extra_arguments = {"-device", "virtio-balloon"},
                                    .incoming = incoming});
    EXPECT_TRUE(qemu.ok()) << qemu.status();
    return qemu.ok() ? std::move(*qemu) : nullptr;
  }

  const std::string binary_;
  const FreezePoint freeze_point_;
  std::unique_ptr<QemuProcess> from_;
  std::unique_ptr<QemuProcess> to_;
  std::unique_ptr<Inspector> from_monitor_;
  std::unique_ptr<Inspector> to_monitor_;
  // Control thread.
  std::unique_ptr<QemuSourceVmm> source_;
  std::unique_ptr<QemuDestinationVmm> destination_;
};

std::vector<VmmWorldFactory> Worlds(std::initializer_list<FreezePoint> points) {
  std::vector<VmmWorldFactory> worlds;
  for (FreezePoint point : points) {
    for (const std::string& binary : QemuBinaries()) {
      worlds.emplace_back([=] { return std::make_unique<QemuVmmWorld>(binary, point); });
    }
  }
  return worlds;
}
std::string NameOf(const testing::TestParamInfo<VmmWorldFactory>& info) {
  const size_t binaries = QemuBinaries().size();
  return std::string(info.index % binaries == 0 ? "System" : "Newer") +
         (info.index < binaries ? "" : "SavedAtOnce");
}

INSTANTIATE_TEST_SUITE_P(Qemu, SourceVmmContract,
                         ::testing::ValuesIn(Worlds({FreezePoint::kDrained, FreezePoint::kSaving})),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Qemu, SourceVmmPauseContract,
                         ::testing::ValuesIn(Worlds({FreezePoint::kDrained, FreezePoint::kSaving})),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Qemu, DestinationVmmContract,
                         ::testing::ValuesIn(Worlds({FreezePoint::kDrained})), NameOf);

}  // namespace
}  // namespace faultline::contract
