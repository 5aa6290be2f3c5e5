// faultline.hpp: what a C++ program overrides is what is called.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <faultline/faultline.hpp>
#include <string>
#include <vector>

#include "assembly/fake_sessions.h"
#include "base/file_descriptor.h"
#include "fakes/manual_executor.h"

namespace faultline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class LoggingSource : public api::SourceGuest {
 public:
  api::Status Freeze(bool* was_running) override {
    log.push_back(*was_running ? "freeze a running guest" : "freeze a paused guest");
    *was_running = false;
    return {};
  }
  api::Status Save(api::Sink& sink) override {
    sink.Write("state", 5);
    return {};
  }
  api::Status Rollback() override { return {FAULTLINE_UNAVAILABLE, "a thread has gone"}; }
  api::Status Retire() override { return {}; }
  void OnNotice(const char* text) override { log.push_back(text); }
  void OnEnded(const faultline_result& result) override {
    log.push_back(faultline_owner_name(result.owner));
  }

  std::vector<std::string> log;
};

class LoggingDestination : public api::DestinationGuest {
 public:
  api::Status Load(const void* bytes, std::size_t size_bytes) override {
    log.push_back("load " + std::string(static_cast<const char*>(bytes), size_bytes));
    return {};
  }
  api::Status TakeOver(bool run) override { return Log(run ? "run" : "stay paused"); }
  api::Status SetPaused(bool paused) override { return Log(paused ? "pause" : "continue"); }
  api::Status Finish() override { return Log("finish"); }
  api::Status Discard() override { return Log("discard"); }

  std::vector<std::string> log;

 private:
  api::Status Log(const char* line) {
    log.push_back(line);
    return {};
  }
};

class WrapperTest : public testing::Test {
 protected:
  WrapperTest() {
    faultline_region region{};
    region.name = "ram";
    region.size_bytes = 1 << 20;
    region.page_size_bytes = 4096;
    region.flags = FAULTLINE_REGION_HAS_FILE;
    region.fd = memory_.get();
    region.address = reinterpret_cast<void*>(0x10000);
    EXPECT_TRUE(vm_.AddRegion(region).ok());
    options_.uri = "tcp://127.0.0.1:4444";
  }

  FileDescriptor memory_{memfd_create("ram", MFD_CLOEXEC)};
  api::Vm vm_;
  api::Options options_;
  FakeSessionScript script_;
  FakeSessions fakes_{&script_};
};

TEST_F(WrapperTest, SourceGuestIsCalled) {
  LoggingSource guest;
  script_.source = [&guest](SourceParts parts) -> FakeSessionScript::Run {
    return [&guest, make_vmm = parts.vmm](SessionObserver* observer, std::future<std::string>) {
      ManualClock clock;
      ManualExecutor executor(&clock);
      const std::unique_ptr<SourceVmm> vmm = make_vmm(executor);
      const auto log = [&guest](absl::Status status) { guest.log.push_back(MessageOf(status)); };
      vmm->Freeze(
          FreezePoint::kSaving,
          [&guest](std::span<const std::byte> bytes) {
            guest.log.push_back(std::to_string(bytes.size()) + " bytes");
          },
          [&guest](absl::StatusOr<VmDescription> vm) {
            guest.log.push_back(vm->running ? "was running" : "was paused");
          });
      clock.RunUntilIdle();
      vmm->SaveDevices(log);
      clock.RunUntilIdle();
      vmm->Rollback(log);
      clock.RunUntilIdle();
      observer->OnNotice("a notice");
      return SessionResult{.owner = VmOwner::kDestination};
    };
  };
  api::Status status;
  api::Session session = api::Session::StartSource(vm_, options_, &guest, &status);
  ASSERT_TRUE(session) << status.message();
  EXPECT_EQ(session.Wait().owner, FAULTLINE_OWNER_DESTINATION);
  EXPECT_THAT(guest.log, ElementsAre("freeze a running guest", "was paused", "5 bytes", "",
                                     HasSubstr("a thread has gone"), "a notice", "destination"));
}

TEST_F(WrapperTest, DestinationGuestIsCalled) {
  LoggingDestination guest;
  script_.destination = [](DestinationParts parts) -> FakeSessionScript::Run {
    return [parts](SessionObserver*, std::future<std::string>) {
      ManualClock clock;
      ManualExecutor executor(&clock);
      const std::unique_ptr<DestinationVmm> vmm = parts.vmm(executor);
      const auto ignore = [](absl::Status) {};
      vmm->Load(ignore);
      vmm->FeedDeviceState(std::as_bytes(std::span("abc", 3)));
      vmm->EndDeviceState();
      vmm->TakeOver(true, ignore);
      vmm->SetPaused(true, ignore);
      vmm->SetPaused(false, ignore);
      vmm->Finish(ignore);
      clock.RunUntilIdle();
      vmm->Discard(ignore);
      clock.RunUntilIdle();
      return SessionResult{.owner = VmOwner::kDestination};
    };
  };
  api::Status status;
  api::Session session = api::Session::StartDestination(vm_, options_, &guest, &status);
  ASSERT_TRUE(session) << status.message();
  EXPECT_EQ(session.Wait().status, FAULTLINE_OK);
  EXPECT_THAT(guest.log, ElementsAre("load abc", "run", "pause", "continue", "finish", "discard"));
}

TEST_F(WrapperTest, FailuresAreStatuses) {
  script_.made = absl::AlreadyExistsError("the port is taken");
  LoggingDestination guest;
  api::Status status;
  const api::Session session = api::Session::StartDestination(vm_, options_, &guest, &status);
  EXPECT_FALSE(session);
  EXPECT_EQ(status.code(), FAULTLINE_ALREADY_EXISTS);
  EXPECT_EQ(status.message(), "the port is taken");
}

}  // namespace
}  // namespace faultline
