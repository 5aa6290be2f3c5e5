#include "engine/peer_watch.h"

#include <gtest/gtest.h>

#include "fakes/manual_executor.h"
#include "fakes/timer_alarm.h"

namespace faultline {
namespace {

class CountingChannel : public ControlChannel {
 public:
  void Start(Listener*) override {}
  void Send(const Message& message) override {
    beats_ += std::holds_alternative<Heartbeat>(message) ? 1 : 0;
  }
  std::string peer_name() const override { return "peer"; }
  int beats() const { return beats_; }

 private:
  int beats_ = 0;
};

class PeerWatchTest : public testing::Test {
 protected:
  ManualClock clock_;
  ManualExecutor executor_{&clock_};
  CountingChannel channel_;
  int64_t silent_us_ = 0;
  PeerWatch watch_{&executor_, &channel_, 100'000, 500'000,
                   [this](int64_t us) { silent_us_ = us; }};
};

TEST_F(PeerWatchTest, GivesSignsOfLifeAndNoticesSilence) {
  clock_.AdvanceBy(500'000);
  EXPECT_EQ(silent_us_, 0);
  EXPECT_EQ(channel_.beats(), 5);
  clock_.AdvanceBy(100'000);
  EXPECT_EQ(silent_us_, 600'000);
  clock_.AdvanceBy(10'000'000);
  EXPECT_EQ(channel_.beats(), 5);  // it is over
}

TEST_F(PeerWatchTest, APeerThatSpeaksIsAlive) {
  for (int i = 0; i < 20; ++i) {
    clock_.AdvanceBy(400'000);
    watch_.NoteReceived();
  }
  EXPECT_EQ(silent_us_, 0);
}

TEST_F(PeerWatchTest, TheLimitCanBeChanged) {
  clock_.AdvanceBy(450'000);
  watch_.SetSilenceMax(2'000'000);
  clock_.AdvanceBy(1'900'000);
  EXPECT_EQ(silent_us_, 0);
  clock_.AdvanceBy(300'000);
  EXPECT_GT(silent_us_, 2'000'000);
}

// An executor whose timers come late, as on a host that stood still.
class LateExecutor : public Executor {
 public:
  void Post(Task task) override { task(); }
  std::unique_ptr<Timer> RunAfter(int64_t, Task task) override {
    task_ = std::move(task);
    return std::make_unique<Timer>();
  }
  std::unique_ptr<Alarm> MakeAlarm(Task task) override {
    return std::make_unique<TimerAlarm>(this, std::move(task));
  }
  int64_t NowNanos() const override { return now_ns_; }
  void RunLate(int64_t by_us) {
    now_ns_ += by_us * 1000;
    std::exchange(task_, nullptr)();
  }

 private:
  int64_t now_ns_ = 0;
  Task task_;
};

TEST(PeerWatchStandstillTest, TheOwnStandstillIsNotThePeersSilence) {
  LateExecutor executor;
  CountingChannel channel;
  bool silent = false;
  PeerWatch watch(&executor, &channel, 100'000, 500'000, [&](int64_t) { silent = true; });
  executor.RunLate(60'000'000);
  EXPECT_FALSE(silent);
  for (int i = 0; i < 4; ++i) executor.RunLate(100'000);
  EXPECT_TRUE(silent);
}

}  // namespace
}  // namespace faultline
