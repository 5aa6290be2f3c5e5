#include "engine/install_gate.h"

namespace faultline {

// Enter and Close form a store-then-load pair on two variables each; only sequential consistency
// guarantees that at least one of the two sees the other.

void InstallGate::Enter() {
  for (;;) {
    closed_.wait(1, std::memory_order_seq_cst);
    inside_.fetch_add(1, std::memory_order_seq_cst);
    if (closed_.load(std::memory_order_seq_cst) == 0) return;
    Leave();
  }
}

void InstallGate::Leave() {
  inside_.fetch_sub(1, std::memory_order_seq_cst);
  inside_.notify_all();
}

void InstallGate::Close() {
  closed_.store(1, std::memory_order_seq_cst);
  while (uint32_t inside = inside_.load(std::memory_order_seq_cst)) {
    inside_.wait(inside, std::memory_order_seq_cst);
  }
}

void InstallGate::Open() {
  closed_.store(0, std::memory_order_seq_cst);
  closed_.notify_all();
}

}  // namespace faultline
