// What src/seams/executor.h and src/seams/journal.h promise, held against the real part and the
// fake.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "fakes/fake_journal.h"
#include "fakes/manual_executor.h"
#include "runtime/journal/file_journal.h"
#include "runtime/loop.h"

namespace faultline {
namespace {

// An executor, and a way to wait until something holds on its thread.
class ExecutorWorld {
 public:
  virtual ~ExecutorWorld() = default;
  virtual Executor& executor() = 0;
  // Runs `task` there and returns when it has ended.
  virtual void RunOn(const Task& task) = 0;
  // Lets `duration_us` pass.
  virtual void Pass(int64_t duration_us) = 0;
};

class LoopWorld : public ExecutorWorld {
 public:
  explicit LoopWorld(int64_t poll_us) : loop_("contract", poll_us) { loop_.StartThread(); }
  Executor& executor() override { return loop_; }
  void RunOn(const Task& task) override {
    std::promise<void> ran;
    loop_.Post([&] {
      task();
      ran.set_value();
    });
    ran.get_future().wait();
  }
  void Pass(int64_t duration_us) override {
    std::this_thread::sleep_for(std::chrono::microseconds(duration_us));
    RunOn([] {});
  }

 private:
  Loop loop_;
};

class ManualWorld : public ExecutorWorld {
 public:
  Executor& executor() override { return executor_; }
  void RunOn(const Task& task) override {
    executor_.Post(task);
    clock_.RunUntilIdle();
  }
  void Pass(int64_t duration_us) override { clock_.AdvanceBy(duration_us); }

 private:
  ManualClock clock_;
  ManualExecutor executor_{&clock_};
};

using WorldFactory = std::function<std::unique_ptr<ExecutorWorld>()>;

class ExecutorContract : public testing::TestWithParam<WorldFactory> {
 protected:
  const std::unique_ptr<ExecutorWorld> world_ = GetParam()();
};

TEST_P(ExecutorContract, TasksRunInTheOrderOfPosting) {
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) world_->executor().Post([&order, i] { order.push_back(i); });
  world_->RunOn([&] {
    ASSERT_EQ(order.size(), 100u);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  });
}

TEST_P(ExecutorContract, WhatATaskPostsRunsAfterIt) {
  bool inner_ran = false;
  world_->RunOn([&] {
    world_->executor().Post([&] { inner_ran = true; });
    EXPECT_FALSE(inner_ran);
  });
  world_->RunOn([&] { EXPECT_TRUE(inner_ran); });
}

TEST_P(ExecutorContract, ATimerFiresOnceAndNotEarly) {
  int fired = 0;
  int64_t set_at_ns = 0;
  int64_t fired_at_ns = 0;
  std::unique_ptr<Timer> timer;
  world_->RunOn([&] {
    set_at_ns = world_->executor().NowNanos();
    timer = world_->executor().RunAfter(20'000, [&] {
      ++fired;
      fired_at_ns = world_->executor().NowNanos();
    });
    EXPECT_EQ(fired, 0);
  });
  world_->Pass(200'000);
  world_->RunOn([&] {
    EXPECT_EQ(fired, 1);
    EXPECT_GE(fired_at_ns - set_at_ns, 20'000'000);
    timer.reset();
  });
}

TEST_P(ExecutorContract, ATimerThatIsDestroyedNeverFires) {
  bool fired = false;
  world_->RunOn([&] {
    std::unique_ptr<Timer> timer = world_->executor().RunAfter(5'000, [&] { fired = true; });
    timer.reset();
  });
  world_->Pass(50'000);
  world_->RunOn([&] { EXPECT_FALSE(fired); });
}

TEST_P(ExecutorContract, ATimersTaskMayDestroyItsTimerAndSetTheNext) {
  int fired = 0;
  std::unique_ptr<Timer> timer;
  std::function<void()> again = [&] {
    timer.reset();
    if (++fired < 3) timer = world_->executor().RunAfter(1'000, again);
  };
  world_->RunOn([&] { timer = world_->executor().RunAfter(1'000, again); });
  world_->Pass(200'000);
  world_->RunOn([&] {
    EXPECT_EQ(fired, 3);
    timer.reset();
  });
}

TEST_P(ExecutorContract, AnAlarmIsSetAgainAndAgain) {
  int fired = 0;
  int64_t due_ns = 0;
  int64_t fired_at_ns = 0;
  std::unique_ptr<Alarm> alarm;
  auto set = [&](int64_t delay_us) {
    due_ns = world_->executor().NowNanos() + delay_us * 1000;
    alarm->Set(delay_us);
    EXPECT_TRUE(alarm->is_set());
  };
  world_->RunOn([&] {
    alarm = world_->executor().MakeAlarm([&] {
      fired_at_ns = world_->executor().NowNanos();
      EXPECT_FALSE(alarm->is_set());
      if (++fired == 1) set(10'000);
    });
    EXPECT_FALSE(alarm->is_set());
    set(1'000);
    set(20'000);  // instead
  });
  world_->Pass(200'000);
  world_->RunOn([&] {
    EXPECT_EQ(fired, 2);
    EXPECT_GE(fired_at_ns, due_ns);
    EXPECT_FALSE(alarm->is_set());
    set(5'000);
    alarm->Clear();
    EXPECT_FALSE(alarm->is_set());
  });
  world_->Pass(50'000);
  world_->RunOn([&] {
    EXPECT_EQ(fired, 2);
    set(5'000);
    alarm.reset();
  });
  world_->Pass(50'000);
  world_->RunOn([&] { EXPECT_EQ(fired, 2); });
}

INSTANTIATE_TEST_SUITE_P(Loop, ExecutorContract,
                         testing::Values([] { return std::make_unique<LoopWorld>(0); }));
INSTANTIATE_TEST_SUITE_P(PollingLoop, ExecutorContract,
                         testing::Values([] { return std::make_unique<LoopWorld>(500); }));
INSTANTIATE_TEST_SUITE_P(Manual, ExecutorContract,
                         testing::Values([] { return std::make_unique<ManualWorld>(); }));

// A journal in a folder of its own, and what it holds.
struct JournalWorld {
  JournalWorld() = default;
  virtual ~JournalWorld() = default;
  virtual Journal& journal() = 0;
  virtual JournalPhase last() = 0;
};

struct FileJournalWorld : JournalWorld {
  FileJournalWorld() {
    std::string folder = testing::TempDir() + "journal-contract-XXXXXX";
    folder_ = mkdtemp(folder.data());
    file_ = *FileJournal::Create(folder_ + "/a.journal", folder_ + "/state", std::string(32, 'a'),
                                 "source");
  }
  ~FileJournalWorld() override { std::filesystem::remove_all(folder_); }
  Journal& journal() override { return *file_; }
  JournalPhase last() override { return *ReadJournalPhase(folder_ + "/a.journal"); }

 private:
  std::string folder_;
  std::unique_ptr<FileJournal> file_;
};

struct FakeJournalWorld : JournalWorld {
  Journal& journal() override { return fake_; }
  JournalPhase last() override { return fake_.records().back(); }

 private:
  FakeJournal fake_;
};

class JournalContract
    : public testing::TestWithParam<std::function<std::unique_ptr<JournalWorld>()>> {};

TEST_P(JournalContract, TheLastRecordIsTheOneThatCounts) {
  std::unique_ptr<JournalWorld> world = GetParam()();
  for (JournalPhase phase : {JournalPhase::kPreparing, JournalPhase::kFrozen,
                             JournalPhase::kCommitted, JournalPhase::kCompleted}) {
    ASSERT_TRUE(world->journal().Record(phase).ok());
    EXPECT_EQ(world->last(), phase);
  }
}

TEST_P(JournalContract, MadeDurableMoreThanOnce) {
  std::unique_ptr<JournalWorld> world = GetParam()();
  ASSERT_TRUE(world->journal().Record(JournalPhase::kCommitted).ok());
  EXPECT_TRUE(world->journal().MakeDurable().ok());
  ASSERT_TRUE(world->journal().Record(JournalPhase::kCompleted).ok());
  EXPECT_TRUE(world->journal().MakeDurable().ok());
  EXPECT_EQ(world->last(), JournalPhase::kCompleted);
}

INSTANTIATE_TEST_SUITE_P(File, JournalContract,
                         testing::Values([] { return std::make_unique<FileJournalWorld>(); }));
INSTANTIATE_TEST_SUITE_P(Fake, JournalContract,
                         testing::Values([] { return std::make_unique<FakeJournalWorld>(); }));

}  // namespace
}  // namespace faultline
