// The part of a VMM world that drivers on a real loop share: the control thread.
#ifndef FAULTLINE_TESTS_CONTRACT_LOOP_VMM_WORLD_H_
#define FAULTLINE_TESTS_CONTRACT_LOOP_VMM_WORLD_H_

#include <chrono>
#include <future>
#include <thread>

#include "contract/vmm_world.h"
#include "runtime/loop.h"

namespace faultline::contract {

// A derived world drops its drivers, on the control thread, before it goes.
class LoopVmmWorld : public VmmWorld {
 public:
  LoopVmmWorld() { loop_.StartThread(); }

  const Executor& control() override { return loop_; }
  bool OnControl() override { return loop_.IsOwnThread(); }
  void RunOnControl(const Task& task) override {
    std::promise<void> ran;
    loop_.Post([&] {
      task();
      ran.set_value();
    });
    ran.get_future().wait();
  }
  bool WaitUntil(const std::function<bool()>& done) override {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (true) {
      bool holds = false;
      RunOnControl([&] { holds = done(); });
      if (holds || std::chrono::steady_clock::now() > give_up) return holds;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void Pass(int64_t duration_us) override {
    if (duration_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(duration_us));
    RunOnControl([] {});
  }

 protected:
  Loop loop_{"control"};
};

}  // namespace faultline::contract

#endif  // FAULTLINE_TESTS_CONTRACT_LOOP_VMM_WORLD_H_
