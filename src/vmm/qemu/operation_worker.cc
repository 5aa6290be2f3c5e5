#include "vmm/qemu/operation_worker.h"

namespace faultline {

OperationWorker::OperationWorker(Executor* control) : control_(control) {}

OperationWorker::~OperationWorker() { Stop(); }

void OperationWorker::Stop() {
  *alive_ = false;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  cancel_.Set();
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void OperationWorker::CancelAll() {
  ++epoch_;
  cancel_.Set();
  Enqueue([this] {
    std::lock_guard lock(mutex_);
    if (!stopping_) cancel_.Reset();
  });
}

void OperationWorker::PostToControl(Task task) {
  control_->Post([alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

void OperationWorker::Enqueue(Task task) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
  if (!thread_.joinable()) thread_ = std::thread([this] { Work(); });
}

void OperationWorker::Work() {
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace faultline
