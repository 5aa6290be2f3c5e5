#include "engine/migration_rig.h"

#include <gmock/gmock.h>

#include <utility>

#include "fakes/borrowed_guest_memory.h"
#include "fakes/fake_push_order.h"

namespace faultline {
namespace {

bool IsAbsent(PageId page) { return page.index % 4 == 3; }

}  // namespace

VmDescription DescribeVm(const MemoryLayout& layout, bool running) {
  VmDescription vm;
  for (const RegionLayout& region : layout) vm.regions.push_back({.layout = region});
  vm.running = running;
  vm.guest_may_discard = true;
  vm.vmm_version = "fake VMM 1";
  return vm;
}

class MigrationRig::SourceFactory : public SourceMemoryFactory {
 public:
  explicit SourceFactory(MigrationRig* rig) : rig_(rig) {}
  absl::StatusOr<std::unique_ptr<SourceMemory>> Open(const VmDescription& description) override {
    if (!rig_->open_failure.ok()) return rig_->open_failure;
    auto memory = std::make_unique<FakeSourceMemory>(description.layout());
    rig_->source_memory = memory.get();
    for (RegionIndex region = 0; region < description.regions.size(); ++region) {
      for (uint64_t page = 0; page < description.regions[region].layout.page_count(); ++page) {
        PageId id{region, page};
        if (rig_->options.with_data && !IsAbsent(id)) memory->Fill(id, SourceByte(id));
      }
    }
    if (!rig_->map_failure.ok()) memory->FailWith(rig_->map_failure);
    return memory;
  }

 private:
  MigrationRig* const rig_;
};

class MigrationRig::GuestFactory : public GuestMemoryFactory {
 public:
  explicit GuestFactory(MigrationRig* rig) : rig_(rig) {}
  absl::Status Check(const VmDescription&) override { return rig_->check_failure; }
  absl::StatusOr<std::unique_ptr<GuestMemory>> Arm(const VmDescription& description) override {
    if (!rig_->arm_failure.ok()) return rig_->arm_failure;
    rig_->guest_memory_ =
        std::make_unique<FakeGuestMemory>(description.layout(), &rig_->destination_threads.demand);
    rig_->guest = rig_->guest_memory_.get();
    return std::make_unique<BorrowedGuestMemory>(rig_->guest);
  }
  absl::StatusOr<std::unique_ptr<GuestMemory>> TakeOver(const VmDescription& description) override {
    if (!rig_->arm_failure.ok()) return rig_->arm_failure;
    if (rig_->guest->disarmed()) return nullptr;
    auto memory = std::make_unique<BorrowedGuestMemory>(rig_->guest);
    for (RegionIndex region = 0; region < description.regions.size(); ++region) {
      RETURN_IF_ERROR(memory->Wake({region, 0, description.regions[region].layout.page_count()}));
    }
    return memory;
  }

 private:
  MigrationRig* const rig_;
};

namespace {

VmDescription DescribeSource(const RigOptions& options) {
  VmDescription vm = DescribeVm(options.layout, options.vm_running);
  vm.direct_io = options.direct_io;
  vm.guest_may_discard = options.guest_may_discard;
  return vm;
}

}  // namespace

MigrationRig::MigrationRig(const RigOptions& rig_options)
    : options(rig_options),
      clock(rig_options.seed.has_value() ? ManualClock(*rig_options.seed) : ManualClock()),
      source_vmm(&source_threads.control, &vm, DescribeSource(options)),
      destination_vmm(&destination_threads.control, &vm, DescribeVm(options.layout, false)),
      source_transport(&network, &source_threads.control, &source_threads.demand,
                       &source_threads.bulk),
      destination_transport(&network, &destination_threads.control, &destination_threads.demand,
                            &destination_threads.bulk),
      writes(options.layout) {
  source_factory = std::make_unique<SourceFactory>(this);
  guest_factory = std::make_unique<GuestFactory>(this);
}

MigrationRig::~MigrationRig() = default;

void MigrationRig::StartDestination() {
  destination = std::make_unique<DestinationSession>(
      DestinationSession::Parts{.control = &destination_threads.control,
                                .demand = &destination_threads.demand,
                                .bulk = &destination_threads.bulk,
                                .vmm = &destination_vmm,
                                .memory_factory = guest_factory.get(),
                                .transport = &destination_transport,
                                .journal = &destination_journal,
                                .observer = &destination_observer},
      DestinationSession::Options{.token = {7, 7, 7},
                                  .huge_pages = options.huge_pages,
                                  .integrity = options.destination_integrity,
                                  .limits = limits});
  destination_threads.control.Post([this] {
    destination->Start([this](SessionResult result) { destination_result = std::move(result); });
  });
}

void MigrationRig::StartSource() {
  source = std::make_unique<SourceSession>(
      SourceSession::Parts{.control = &source_threads.control,
                           .demand = &source_threads.demand,
                           .bulk = &source_threads.bulk,
                           .vmm = &source_vmm,
                           .memory_factory = source_factory.get(),
                           .transport = &source_transport,
                           .tracker_factory = &tracker_factory,
                           .push_order = std::make_unique<FakePushOrder>(),
                           .journal = &source_journal,
                           .observer = &source_observer},
      SourceSession::Options{.id = {1, 2, 3},
                             .quit_source = false,
                             .integrity = options.source_integrity,
                             .mode = options.mode,
                             .budgets = options.budgets,
                             .limits = limits});
  source_threads.control.Post([this] {
    source->Start([this](SessionResult result) { source_result = std::move(result); });
  });
}

void MigrationRig::Start() {
  StartDestination();
  clock.AdvanceBy(10'000);
  StartSource();
}

bool MigrationRig::RunToEnd(int64_t limit_us) {
  return clock.RunUntil(
      [this] { return source_result.has_value() && destination_result.has_value(); }, limit_us);
}

std::byte MigrationRig::SourceByte(PageId page) {
  return static_cast<std::byte>(1 + (page.index * 7 + page.region * 3) % 250);
}

std::byte MigrationRig::source_byte(PageId page) const {
  return options.with_data && !IsAbsent(page) ? SourceByte(page) : std::byte{0};
}

void MigrationRig::ExpectMemoryMoved() const {
  ASSERT_NE(guest, nullptr);
  for (RegionIndex region = 0; region < options.layout.size(); ++region) {
    for (uint64_t index = 0; index < options.layout[region].page_count(); ++index) {
      PageId page{region, index};
      EXPECT_EQ(guest->BytesOf(page),
                std::vector<std::byte>(options.layout[region].page_size_bytes, source_byte(page)))
          << "page " << index << " of region " << region;
    }
  }
}

void MigrationRig::WriteOnSource(PageId page, std::byte value) {
  if (!vm.runs_on_source || source_memory == nullptr) return;
  source_memory->Fill(page, value);
  writes.Write(page);
}

void MigrationRig::ExpectMemoryEqual() const {
  ASSERT_NE(guest, nullptr);
  for (RegionIndex region = 0; region < options.layout.size(); ++region) {
    const uint64_t page_bytes = options.layout[region].page_size_bytes;
    for (uint64_t index = 0; index < options.layout[region].page_count(); ++index) {
      std::vector<std::byte> bytes(page_bytes);
      ASSERT_TRUE(source_memory->Read(region, index * page_bytes, bytes).ok());
      EXPECT_EQ(guest->BytesOf({region, index}), bytes)
          << "page " << index << " of region " << region;
    }
  }
}

void MigrationRig::ExpectOneOwner() const {
  EXPECT_FALSE(vm.ran_on_both);
  if (!source_result.has_value()) return;
  EXPECT_NE(source_result->owner, VmOwner::kUndecided);
  if (!destination_result.has_value()) return;
  if (destination_result->owner != VmOwner::kUndecided) {
    EXPECT_EQ(source_result->owner, destination_result->owner);
  }
  bool on_wrong_side =
      source_result->owner == VmOwner::kSource ? vm.runs_on_destination : vm.runs_on_source;
  EXPECT_FALSE(on_wrong_side);
}

void MigrationRig::ExpectRolledBack() const {
  ExpectOneOwner();
  ASSERT_TRUE(source_result.has_value());
  EXPECT_FALSE(source_result->status.ok());
  EXPECT_EQ(source_result->owner, VmOwner::kSource);
  EXPECT_EQ(vm.runs_on_source, options.vm_running);
  EXPECT_EQ(source_vmm.CountOf("Rollback"), 1u);
  EXPECT_EQ(source_vmm.CountOf("Retire"), 0u);
  EXPECT_EQ(source_journal.records().back(), JournalPhase::kRolledBack);
  EXPECT_EQ(source_observer.phases().back(), Phase::kFailed);
  if (vm.stopped_at_ns != 0 && options.vm_running) {
    EXPECT_LE(vm.back_at_work_ns - vm.stopped_at_ns, 2'000'000'000);
  }
  if (!destination_result.has_value()) return;
  EXPECT_FALSE(destination_result->status.ok());
  EXPECT_FALSE(destination_result->status.message().empty());
  EXPECT_EQ(destination_result->owner, VmOwner::kSource);
  EXPECT_TRUE(destination_vmm.discarded());
  EXPECT_EQ(destination_vmm.CountOf("TakeOver"), 0u);
}

void MigrationRig::ExpectCompleted() const {
  ExpectOneOwner();
  ASSERT_TRUE(source_result.has_value() && destination_result.has_value());
  EXPECT_TRUE(source_result->status.ok()) << source_result->status;
  EXPECT_TRUE(destination_result->status.ok()) << destination_result->status;
  EXPECT_EQ(source_result->owner, VmOwner::kDestination);
  EXPECT_EQ(destination_result->owner, VmOwner::kDestination);
  EXPECT_EQ(vm.runs_on_destination, options.vm_running);
  EXPECT_FALSE(vm.runs_on_source);
  EXPECT_EQ(source_vmm.CountOf("Retire"), 1u);
  EXPECT_EQ(source_vmm.CountOf("Rollback"), 0u);
  EXPECT_EQ(destination_vmm.CountOf("Finish"), 1u);
  EXPECT_EQ(destination_vmm.CountOf("Discard"), 0u);
  EXPECT_EQ(destination_vmm.fed(), source_vmm.device_state());
  EXPECT_EQ(source_journal.records().back(), JournalPhase::kCompleted);
  // Where Goodbye was lost it does not know that the source knows.
  EXPECT_THAT(destination_journal.records().back(),
              testing::AnyOf(JournalPhase::kCompleted, JournalPhase::kReleased));
  EXPECT_TRUE(guest->disarmed());
}

}  // namespace faultline
