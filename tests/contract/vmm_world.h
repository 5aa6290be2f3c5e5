// What the VMM contract suites run on: one VM, its VMMs on both sides, and the control thread. One
// implementation for each driver and one for the fake.
#ifndef FAULTLINE_TESTS_CONTRACT_VMM_WORLD_H_
#define FAULTLINE_TESTS_CONTRACT_VMM_WORLD_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "seams/executor.h"
#include "seams/vmm.h"

namespace faultline::contract {

// The test's thread calls, except where said.
class VmmWorld {
 public:
  virtual ~VmmWorld() = default;

  // Makes the VM that leaves, at work or paused by its operator, and the one that waits for it;
  // each with a fresh driver, in place of what was there. False, with a test failure, if that
  // fails.
  virtual bool MakeSource(bool running) = 0;
  virtual bool MakeDestination() = 0;
  // Control thread.
  virtual SourceVmm& source() = 0;
  virtual DestinationVmm& destination() = 0;
  // What the suite asks for.
  virtual FreezePoint freeze_point() const { return FreezePoint::kDrained; }
  // Destroys the driver, not the VM; control thread.
  virtual void DropSource() = 0;
  virtual void DropDestination() = 0;

  virtual const Executor& control() = 0;
  virtual bool OnControl() = 0;  // any thread
  // Runs `task` on the control thread and returns when it has run.
  virtual void RunOnControl(const Task& task) = 0;
  // Lets things happen until `done`, asked on the control thread, holds or too much time has
  // passed.
  virtual bool WaitUntil(const std::function<bool()>& done) = 0;
  // Lets things happen for so long.
  virtual void Pass(int64_t duration_us) = 0;

  // What the VM does, whatever the driver believes.
  virtual bool RunsAtSource() = 0;
  virtual bool RunsAtDestination() = 0;
  virtual bool DestinationIsGone() = 0;
  // All that a migration might change in the source's VMM besides; empty if there is no such thing.
  virtual std::string SourceSettings() = 0;

  // The source's VMM dies or answers nothing but errors from now on.
  virtual void BreakSource() = 0;
  // The frozen source's next SaveDevices fails; its VMM is fine otherwise.
  virtual void SpoilSave() = 0;
  // The destination cannot load what this makes of `state`.
  virtual std::vector<std::byte> SpoilState(std::vector<std::byte> state) = 0;
  // Makes the destination's memory the same as the frozen source's.
  virtual void CarryMemory() = 0;
};

using VmmWorldFactory = std::function<std::unique_ptr<VmmWorld>()>;

// What both suites begin with: operations that are begun on the control thread and waited for, each
// watched for what the seam promises of every `done`.
class VmmContract : public ::testing::TestWithParam<VmmWorldFactory> {
 protected:
  struct Operation {
    const char* name;
    std::function<void(VmmDescribed)> start;
  };
  // One call of one operation; control thread only.
  struct Call {
    const char* name = nullptr;
    bool inside = true;  // the operation has not returned yet
    bool dropped = false;
    int times = 0;
    int order = 0;  // among all calls, from 1
    int64_t begun_ns = 0;
    int64_t ended_ns = 0;
    absl::StatusCode code = absl::StatusCode::kOk;
    std::string message;
    VmDescription vm;
    size_t state_bytes = 0;  // that the sink had got
  };
  using Pending = std::shared_ptr<Call>;
  // A copy for the test's thread.
  struct Result : Call {
    explicit Result(const Call& call) : Call(call), status(call.code, call.message) {}
    bool cancelled() const { return absl::IsCancelled(status); }
    absl::Status status;
  };

  void TearDown() override {
    world_->Pass(kSettleUs);
    world_->RunOnControl([&] {
      for (const Pending& call : calls_) {
        EXPECT_EQ(call->times, call->dropped ? 0 : 1) << "done of " << call->name;
      }
    });
    world_.reset();
  }

  // On the control thread.
  Pending BeginHere(const Operation& operation) {
    auto call = std::make_shared<Call>();
    call->name = operation.name;
    call->begun_ns = world_->control().NowNanos();
    calls_.push_back(call);
    operation.start([this, call](const absl::StatusOr<VmDescription>& vm) {
      EXPECT_TRUE(world_->OnControl()) << call->name;
      EXPECT_FALSE(call->inside) << call->name << " called back inside the call";
      EXPECT_EQ(++call->times, 1) << call->name;
      call->order = ++ended_;
      call->ended_ns = world_->control().NowNanos();
      call->code = vm.status().code();
      call->message = MessageOf(vm.status());
      if (vm.ok()) call->vm = *vm;
      call->state_bytes = state_.size();
    });
    call->inside = false;
    return call;
  }
  Pending Begin(const Operation& operation) {
    Pending call;
    world_->RunOnControl([&] { call = BeginHere(operation); });
    return call;
  }
  bool Ended(const Pending& call) {
    bool ended = false;
    world_->RunOnControl([&] { ended = call->times > 0; });
    return ended;
  }
  Result End(const Pending& call) {
    EXPECT_TRUE(world_->WaitUntil([&] { return call->times > 0; })) << call->name << " hangs";
    Call copy;
    world_->RunOnControl([&] { copy = *call; });
    return Result(copy);
  }
  Result Run(const Operation& operation) { return End(Begin(operation)); }
  // Runs one that must succeed.
  Result Must(const Operation& operation) {
    Result result = Run(operation);
    EXPECT_TRUE(result.status.ok()) << operation.name << ": " << result.status;
    return result;
  }

  Operation SourcePrepare() {
    return {"Prepare", [this](auto done) { world_->source().Prepare(done); }};
  }
  Operation Freeze() { return Freeze(world_->freeze_point()); }
  Operation Freeze(FreezePoint point) {
    return {"Freeze", [this, point](auto done) {
              state_.clear();
              rolling_back_ = false;
              auto sink = [this](std::span<const std::byte> bytes) {
                EXPECT_TRUE(world_->OnControl());
                EXPECT_FALSE(rolling_back_) << "device state after Rollback was called";
                state_.insert(state_.end(), bytes.begin(), bytes.end());
              };
              world_->source().Freeze(point, sink, done);
            }};
  }
  Operation SaveDevices() {
    return {"SaveDevices", [this](auto done) { world_->source().SaveDevices(Plain(done)); }};
  }
  Operation Rollback() {
    return {"Rollback", [this](auto done) {
              rolling_back_ = true;
              world_->source().Rollback(Plain(done));
            }};
  }
  Operation Retire(bool quit) {
    return {"Retire", [this, quit](auto done) { world_->source().Retire(quit, Plain(done)); }};
  }
  // What the sink has got since the last Freeze.
  std::vector<std::byte> State() {
    std::vector<std::byte> copy;
    world_->RunOnControl([&] { copy = state_; });
    return copy;
  }

  Operation DestinationPrepare() {
    return {"Prepare", [this](auto done) { world_->destination().Prepare(done); }};
  }
  Operation DescribeAgain() {
    return {"DescribeAgain", [this](auto done) { world_->destination().DescribeAgain(done); }};
  }
  Operation Load() {
    return {"Load", [this](auto done) { world_->destination().Load(Plain(done)); }};
  }
  // Load, with everything that it needs given before it can begin.
  Operation LoadAll(const std::vector<std::byte>& state) {
    return {"Load", [this, state](auto done) {
              world_->destination().Load(Plain(done));
              world_->destination().FeedDeviceState(state);
              world_->destination().EndDeviceState();
            }};
  }
  Operation TakeOver(bool run) {
    return {"TakeOver",
            [this, run](auto done) { world_->destination().TakeOver(run, Plain(done)); }};
  }
  Operation PauseSource(bool paused) {
    return {"SetPaused",
            [this, paused](auto done) { world_->source().SetPaused(paused, Plain(done)); }};
  }
  Operation SetPaused(bool paused) {
    return {"SetPaused",
            [this, paused](auto done) { world_->destination().SetPaused(paused, Plain(done)); }};
  }
  Operation Finish() {
    return {"Finish", [this](auto done) { world_->destination().Finish(Plain(done)); }};
  }
  Operation Discard() {
    return {"Discard", [this](auto done) { world_->destination().Discard(Plain(done)); }};
  }

  static VmmDone Plain(VmmDescribed done) {
    return [done = std::move(done)](const absl::Status& status) {
      if (status.ok()) return done(VmDescription());
      done(status);
    };
  }

  static constexpr int64_t kSettleUs = 20'000;
  // How long an operation has been under way when it is cut off.
  static constexpr int64_t kMomentsUs[] = {0, 100, 500, 2'000, 5'000, 20'000};

  std::unique_ptr<VmmWorld> world_ = GetParam()();

 private:
  // Control thread.
  std::vector<Pending> calls_;
  int ended_ = 0;
  std::vector<std::byte> state_;
  bool rolling_back_ = false;
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_VMM_WORLD_H_
