// The C ABI's own work: what it checks, copies, forwards and reports. The sessions behind it are
// scripts; the real ones are tested by example_vmm_test.
#include <faultline/faultline.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "assembly/fake_sessions.h"
#include "base/file_descriptor.h"
#include "fakes/manual_executor.h"

namespace faultline {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

template <typename T>
T Initialized() {
  T value;
  FAULTLINE_INIT(&value);
  return value;
}

// A program with one region, that logs what it is asked for.
class CAbiTest : public testing::Test {
 public:  // the callbacks are plain functions
  CAbiTest() {
    region_.name = "ram";
    region_.size_bytes = 1 << 20;
    region_.page_size_bytes = 4096;
    region_.flags = FAULTLINE_REGION_HAS_FILE;
    region_.fd = memory_.get();
    region_.address = reinterpret_cast<void*>(0x10000);
    options_.uri = "tcp://127.0.0.1:4444";
    source_calls_.freeze = [](void* user, int* was_running, faultline_error*) {
      static_cast<CAbiTest*>(user)->log_.push_back("freeze");
      *was_running = 0;
      return FAULTLINE_OK;
    };
    source_calls_.save = [](void* user, faultline_sink* sink, faultline_error*) {
      auto* self = static_cast<CAbiTest*>(user);
      self->log_.push_back("save");
      const std::string state(self->state_bytes_, 's');
      faultline_sink_write(sink, state.data(), state.size());
      return FAULTLINE_OK;
    };
    source_calls_.rollback = [](void* user, faultline_error* error) {
      static_cast<CAbiTest*>(user)->log_.push_back("rollback");
      return faultline_error_set(error, FAULTLINE_UNAVAILABLE, "a thread has gone");
    };
    source_calls_.retire = [](void*, faultline_error*) { return FAULTLINE_INTERNAL; };
    destination_calls_.load = [](void* user, const void*, size_t size_bytes, faultline_error*) {
      static_cast<CAbiTest*>(user)->log_.push_back("load " + std::to_string(size_bytes));
      return FAULTLINE_OK;
    };
    destination_calls_.take_over = [](void* user, int run, faultline_error*) {
      static_cast<CAbiTest*>(user)->log_.push_back(run ? "run" : "stay paused");
      return FAULTLINE_OK;
    };
    destination_calls_.finish = [](void*, faultline_error*) { return FAULTLINE_OK; };
    destination_calls_.discard = [](void*, faultline_error*) { return FAULTLINE_OK; };
  }
  ~CAbiTest() override {
    EXPECT_EQ(faultline_session_destroy(session_), FAULTLINE_OK);
    faultline_vm_destroy(vm_);
  }

  faultline_status AddRegion() { return faultline_vm_add_region(vm_, &region_, &error_); }
  faultline_status StartSource() {
    return faultline_source_start(vm_, &options_, &source_calls_, &events_, this, &session_,
                                  &error_);
  }
  faultline_status StartDestination() {
    return faultline_destination_start(vm_, &options_, &destination_calls_, &events_, this,
                                       &session_, &error_);
  }

  FileDescriptor memory_{memfd_create("ram", MFD_CLOEXEC)};
  faultline_vm* vm_ = faultline_vm_create();
  faultline_session* session_ = nullptr;
  faultline_region region_ = Initialized<faultline_region>();
  faultline_options options_ = Initialized<faultline_options>();
  faultline_events events_ = Initialized<faultline_events>();
  faultline_source_callbacks source_calls_ = Initialized<faultline_source_callbacks>();
  faultline_destination_callbacks destination_calls_ =
      Initialized<faultline_destination_callbacks>();
  faultline_error error_ = Initialized<faultline_error>();

  std::vector<std::string> log_;
  size_t state_bytes_ = 5;
  FakeSessionScript script_;
  FakeSessions fakes_{&script_};
};

TEST_F(CAbiTest, RefusesRegionsThatMakeNoSense) {
  region_.size_bytes = 4097;
  EXPECT_EQ(AddRegion(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("ram"));
  region_.size_bytes = 4096;
  region_.address = reinterpret_cast<void*>(0x10001);
  EXPECT_EQ(AddRegion(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("address"));
  region_.address = nullptr;
  region_.fd_offset_bytes = 1;
  EXPECT_EQ(AddRegion(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("fd_offset_bytes"));
  region_.fd_offset_bytes = 0;
  region_.fd = 12345;
  EXPECT_EQ(AddRegion(), FAULTLINE_INTERNAL);
  EXPECT_THAT(error_.message, HasSubstr("fd 12345"));
  region_.fd = memory_.get();
  region_.flags |= 0x80;
  EXPECT_EQ(AddRegion(), FAULTLINE_UNSUPPORTED);
  region_.flags = FAULTLINE_REGION_HAS_FILE;
  region_.name = nullptr;
  EXPECT_EQ(AddRegion(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_EQ(faultline_vm_add_region(vm_, nullptr, &error_), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_EQ(faultline_vm_add_region(nullptr, &region_, &error_), FAULTLINE_INVALID_ARGUMENT);
}

TEST_F(CAbiTest, EachSideWantsItsRegions) {
  region_.flags = 0;
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  EXPECT_EQ(StartSource(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, AllOf(HasSubstr("ram"), HasSubstr("has no file")));
  faultline_vm_destroy(vm_);
  vm_ = faultline_vm_create();
  region_.address = nullptr;
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  EXPECT_EQ(StartDestination(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("has no address"));
}

TEST_F(CAbiTest, StructuresGrowAtTheirEnd) {
  struct Newer {
    faultline_region known;
    uint64_t added;
  } newer{region_, 0};
  newer.known.struct_size = sizeof newer;
  EXPECT_EQ(faultline_vm_add_region(vm_, &newer.known, &error_), FAULTLINE_OK);
  newer.added = 1;
  EXPECT_EQ(faultline_vm_add_region(vm_, &newer.known, &error_), FAULTLINE_UNSUPPORTED);
  EXPECT_THAT(error_.message, HasSubstr("newer libfaultline"));
  region_.struct_size = 0;
  EXPECT_EQ(AddRegion(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("FAULTLINE_INIT"));

  // Written no further than the caller's size.
  error_.struct_size = offsetof(faultline_error, message) + 1;
  std::memset(error_.message, 'x', sizeof error_.message);
  EXPECT_EQ(AddRegion(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_EQ(error_.status, FAULTLINE_INVALID_ARGUMENT);
  EXPECT_EQ(error_.message[1], 'x');
}

TEST_F(CAbiTest, NamesWhatIsMissing) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  source_calls_.save = nullptr;
  EXPECT_EQ(StartSource(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("save is NULL"));
  destination_calls_.discard = nullptr;
  EXPECT_EQ(StartDestination(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("discard is NULL"));
  source_calls_.save = [](void*, faultline_sink*, faultline_error*) { return FAULTLINE_OK; };
  options_.uri = nullptr;
  EXPECT_EQ(StartSource(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("uri is NULL"));
  options_.uri = "tcp://127.0.0.1:1";
  options_.flags = 0x100;
  EXPECT_EQ(StartSource(), FAULTLINE_UNSUPPORTED);
  options_.flags = 0;
  options_.compression = static_cast<faultline_compression>(3);
  EXPECT_EQ(StartSource(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("compression is 3"));
  options_.compression = FAULTLINE_COMPRESSION_AUTO;
  options_.integrity = static_cast<faultline_integrity>(3);
  EXPECT_EQ(StartSource(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("integrity is 3"));
  EXPECT_EQ(session_, nullptr);
}

TEST_F(CAbiTest, ReportsWhyASessionCouldNotBeMade) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  script_.made =
      absl::InvalidArgumentError("plain TCP to 10.0.0.1 can be read; use ALLOW_INSECURE");
  EXPECT_EQ(StartSource(), FAULTLINE_INVALID_ARGUMENT);
  EXPECT_STREQ(error_.message, "plain TCP to 10.0.0.1 can be read; use ALLOW_INSECURE");
  EXPECT_EQ(error_.status, FAULTLINE_INVALID_ARGUMENT);
}

TEST_F(CAbiTest, ForwardsOptionsAndKeepsTheFilesOpen) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  memory_.Reset();  // the caller may close its own
  options_.flags = FAULTLINE_ALLOW_INSECURE | FAULTLINE_GUEST_MAY_DISCARD;
  options_.bandwidth_bytes_per_second = 1000;
  options_.compression = FAULTLINE_COMPRESSION_LZ4;
  options_.integrity = FAULTLINE_INTEGRITY_ON;
  options_.recovery_timeout_ms = 1500;
  options_.migration_id[3] = 7;
  options_.tls_dir = "/certificates";
  options_.tls_hostname = "vm-host";
  options_.rdma = "fallback=off";
  script_.source = [](SourceParts parts) -> FakeSessionScript::Run {
    EXPECT_EQ(parts.uri, "tcp://127.0.0.1:4444");
    EXPECT_TRUE(parts.insecure);
    EXPECT_EQ(parts.bandwidth, 1000u);
    EXPECT_EQ(parts.compression, Compression::kLz4);
    EXPECT_EQ(parts.integrity, IntegrityWish::kOn);
    EXPECT_EQ(parts.recovery_timeout_us, 1'500'000);
    EXPECT_EQ(parts.id[3], 7);
    EXPECT_EQ(parts.tls.directory, "/certificates");
    EXPECT_EQ(parts.tls.psk_path, "");
    EXPECT_EQ(parts.tls.hostname, "vm-host");
    EXPECT_EQ(parts.rdma.tuning, "fallback=off");
    EXPECT_EQ(parts.rdma.control, "");
    EXPECT_NE(parts.journal, nullptr);
    return [make_vmm = parts.vmm](SessionObserver*, std::future<std::string>) {
      ManualClock clock;
      ManualExecutor executor(&clock);
      const std::unique_ptr<SourceVmm> vmm = make_vmm(executor);
      vmm->Prepare([](absl::StatusOr<VmDescription> vm) {
        ASSERT_TRUE(vm.ok());
        EXPECT_TRUE(vm->guest_may_discard);
        EXPECT_EQ(vm->regions[0].layout.name, "ram");
        EXPECT_GE(fcntl(vm->regions[0].file, F_GETFD), 0);
      });
      clock.RunUntilIdle();
      return SessionResult{.owner = VmOwner::kDestination};
    };
  };
  ASSERT_EQ(StartSource(), FAULTLINE_OK) << error_.message;
  faultline_result result = Initialized<faultline_result>();
  EXPECT_EQ(faultline_session_wait(session_, &result), FAULTLINE_OK);
  EXPECT_EQ(result.owner, FAULTLINE_OWNER_DESTINATION);
}

TEST_F(CAbiTest, AMigrationWithoutAnIdGetsARandomOne) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  MigrationId id{};
  script_.source = [&id](SourceParts parts) -> FakeSessionScript::Run {
    id = parts.id;
    return [](SessionObserver*, std::future<std::string>) { return SessionResult(); };
  };
  ASSERT_EQ(StartSource(), FAULTLINE_OK);
  EXPECT_NE(id, MigrationId{});
}

TEST_F(CAbiTest, SourceCallbacksAreReached) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  state_bytes_ = 1 << 20;
  script_.source = [this](SourceParts parts) -> FakeSessionScript::Run {
    return [this, make_vmm = parts.vmm](SessionObserver*, std::future<std::string>) {
      ManualClock clock;
      ManualExecutor executor(&clock);
      const std::unique_ptr<SourceVmm> vmm = make_vmm(executor);
      size_t bytes = 0, longest = 0;
      const DeviceStateSink sink = [&](std::span<const std::byte> piece) {
        bytes += piece.size();
        longest = std::max(longest, piece.size());
      };
      const auto log = [this](absl::Status status) { log_.push_back(MessageOf(status)); };
      vmm->Freeze(FreezePoint::kSaving, sink, [this](absl::StatusOr<VmDescription> vm) {
        log_.push_back(vm->running ? "was running" : "was paused");
      });
      clock.RunUntilIdle();
      vmm->SaveDevices(log);
      clock.RunUntilIdle();
      vmm->Rollback(log);
      vmm->Retire(false, log);
      clock.RunUntilIdle();
      EXPECT_EQ(bytes, state_bytes_);
      EXPECT_LE(longest, 256u * 1024u) << "a piece must fit one message";
      return SessionResult{.status = absl::CancelledError("over")};
    };
  };
  ASSERT_EQ(StartSource(), FAULTLINE_OK);
  faultline_result result = Initialized<faultline_result>();
  EXPECT_EQ(faultline_session_wait(session_, &result), FAULTLINE_CANCELLED);
  EXPECT_STREQ(result.message, "over");
  EXPECT_EQ(result.owner, FAULTLINE_OWNER_SOURCE);
  EXPECT_THAT(log_, ElementsAre("freeze", "was paused", "save", "", "rollback",
                                HasSubstr("run the guest again: a thread has gone"),
                                HasSubstr("it gave no reason")));
}

TEST_F(CAbiTest, DestinationCallbacksAreReached) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  script_.destination = [this](DestinationParts parts) -> FakeSessionScript::Run {
    return [this, parts](SessionObserver*, std::future<std::string>) {
      ManualClock clock;
      ManualExecutor executor(&clock);
      const std::unique_ptr<DestinationVmm> vmm = parts.vmm(executor);
      const auto log = [this](absl::Status status) { log_.push_back(MessageOf(status)); };
      vmm->Load(log);
      vmm->FeedDeviceState(std::vector<std::byte>(3));
      vmm->EndDeviceState();
      clock.RunUntilIdle();
      vmm->TakeOver(false, log);
      clock.RunUntilIdle();
      return SessionResult{.owner = VmOwner::kDestination};
    };
  };
  ASSERT_EQ(StartDestination(), FAULTLINE_OK);
  EXPECT_EQ(faultline_session_wait(session_, nullptr), FAULTLINE_OK);
  EXPECT_THAT(log_, ElementsAre("load 3", "", "stay paused", ""));
}

TEST_F(CAbiTest, EventsStatisticsAndResultArrive) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  events_.on_listening = [](void* user, const char* uri) {
    static_cast<CAbiTest*>(user)->log_.push_back(uri);
  };
  events_.on_phase = [](void* user, faultline_phase phase, const char* migration_id) {
    static_cast<CAbiTest*>(user)->log_.push_back(std::string(faultline_phase_name(phase)) + " " +
                                                 migration_id);
  };
  events_.on_progress = [](void* user, const faultline_statistics* statistics) {
    static_cast<CAbiTest*>(user)->log_.push_back(std::to_string(statistics->pages_missing) +
                                                 " missing");
  };
  events_.on_notice = [](void* user, const char* text) {
    static_cast<CAbiTest*>(user)->log_.push_back(text);
  };
  events_.on_ended = [](void* user, const faultline_result* result) {
    static_cast<CAbiTest*>(user)->log_.push_back(std::to_string(result->fault_latency.p99_us));
  };
  script_.destination = [this](DestinationParts) -> FakeSessionScript::Run {
    return [this](SessionObserver* observer, std::future<std::string>) {
      observer->OnListening("tcp://127.0.0.1:5");
      observer->OnPhase(Phase::kPostCopy, "abcd");
      observer->OnProgress({.phase = Phase::kPostCopy, .pages_missing = 12, .reconnects = 2});
      observer->OnNotice("a notice");
      faultline_statistics statistics = Initialized<faultline_statistics>();
      faultline_session_statistics(session_, &statistics);
      EXPECT_EQ(statistics.pages_missing, 12u);
      EXPECT_EQ(statistics.phase, FAULTLINE_PHASE_POST_COPY);
      EXPECT_EQ(statistics.reconnects, 2u);
      SessionResult result;
      result.owner = VmOwner::kDestination;
      result.transport = "tcp";
      result.migration_id = std::string(100, 'f');  // longer than the field: cut
      result.fault_latency_us.p99 = 42;
      result.last.pages_demand = 3;
      result.last.reconnects = 4;
      return result;
    };
  };
  ASSERT_EQ(StartDestination(), FAULTLINE_OK);
  faultline_result result = Initialized<faultline_result>();
  EXPECT_EQ(faultline_session_wait(session_, &result), FAULTLINE_OK);
  EXPECT_THAT(log_,
              ElementsAre("tcp://127.0.0.1:5", "post-copy abcd", "12 missing", "a notice", "42"));
  EXPECT_STREQ(result.transport, "tcp");
  EXPECT_EQ(std::strlen(result.migration_id), sizeof result.migration_id - 1);
  EXPECT_EQ(result.pages_demand, 3u);
  EXPECT_EQ(result.reconnects, 4u);
  EXPECT_STREQ(faultline_phase_name(FAULTLINE_PHASE_RECONNECTING), "reconnecting");
  faultline_statistics statistics = Initialized<faultline_statistics>();
  faultline_session_statistics(session_, &statistics);
  EXPECT_EQ(statistics.phase, FAULTLINE_PHASE_COMPLETED);
}

TEST_F(CAbiTest, CancelReachesTheSession) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  script_.source = [](SourceParts) -> FakeSessionScript::Run {
    return [](SessionObserver* observer, std::future<std::string> cancelled) {
      observer->OnPhase(Phase::kConnecting, "");
      if (cancelled.wait_for(std::chrono::seconds(30)) != std::future_status::ready) {
        return SessionResult{.status = absl::DeadlineExceededError("no cancel came")};
      }
      return SessionResult{.status = absl::CancelledError(cancelled.get())};
    };
  };
  ASSERT_EQ(StartSource(), FAULTLINE_OK);
  faultline_session_cancel(session_, "the operator changed his mind");
  faultline_result result = Initialized<faultline_result>();
  EXPECT_EQ(faultline_session_wait(session_, &result), FAULTLINE_CANCELLED);
  EXPECT_STREQ(result.message, "the operator changed his mind");
}

TEST_F(CAbiTest, ACancelThatComesTooEarlyIsNotLost) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  std::promise<void> was_cancelled;
  script_.source = [&was_cancelled](SourceParts) -> FakeSessionScript::Run {
    return [&was_cancelled](SessionObserver* observer, std::future<std::string> cancelled) {
      was_cancelled.get_future().wait();
      EXPECT_EQ(cancelled.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
      observer->OnPhase(Phase::kConnecting, "");
      return SessionResult{.status = absl::CancelledError(cancelled.get())};
    };
  };
  ASSERT_EQ(StartSource(), FAULTLINE_OK);
  faultline_session_cancel(session_, "early");
  was_cancelled.set_value();
  EXPECT_EQ(faultline_session_wait(session_, nullptr), FAULTLINE_CANCELLED);
}

TEST_F(CAbiTest, WaitingAndDestroyingInACallbackAreRefused) {
  ASSERT_EQ(AddRegion(), FAULTLINE_OK);
  events_.on_notice = [](void* user, const char*) {
    auto* self = static_cast<CAbiTest*>(user);
    EXPECT_EQ(faultline_session_wait(self->session_, nullptr), FAULTLINE_FAILED_PRECONDITION);
    EXPECT_EQ(faultline_session_destroy(self->session_), FAULTLINE_FAILED_PRECONDITION);
    self->log_.push_back("refused");
  };
  script_.source = [](SourceParts) -> FakeSessionScript::Run {
    return [](SessionObserver* observer, std::future<std::string>) {
      observer->OnNotice("now");
      return SessionResult();
    };
  };
  ASSERT_EQ(StartSource(), FAULTLINE_OK);
  EXPECT_EQ(faultline_session_wait(session_, nullptr), FAULTLINE_OK);
  EXPECT_THAT(log_, ElementsAre("refused"));
}

TEST_F(CAbiTest, NamesItsValues) {
  EXPECT_STREQ(faultline_status_name(FAULTLINE_UNAVAILABLE), "UNAVAILABLE");
  EXPECT_STREQ(faultline_status_name(FAULTLINE_STATUS_FORCE_INT), "?");
  EXPECT_STREQ(faultline_phase_name(FAULTLINE_PHASE_FAILED), "failed");
  EXPECT_STREQ(faultline_phase_name(FAULTLINE_PHASE_FORCE_INT), "?");
  EXPECT_STREQ(faultline_owner_name(FAULTLINE_OWNER_UNDECIDED), "undecided");
  EXPECT_STREQ(faultline_owner_name(FAULTLINE_OWNER_FORCE_INT), "?");
  EXPECT_THAT(faultline_version(), testing::StartsWith("0."));
}

}  // namespace
}  // namespace faultline
