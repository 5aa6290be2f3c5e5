// Keeps installs and event reads apart, so that a guest's discard is never overtaken by a late
// copy.
//
// The kernel refuses UFFDIO_COPY (EAGAIN) from the start of a discard until its REMOVE event has
// been read. Between that read and the moment the page is marked as discarded nothing would stop a
// copy of old bytes. So installers on other threads hold a pass around "look at the state, copy,
// set the state", and the reader closes the gate around "read the events, mark the discards".
//
// This cannot deadlock: whoever holds a pass does one bounded install, which never waits for an
// event to be read (it gets EAGAIN instead), and does not ask for another pass meanwhile.
//
// A VM that gives no memory back needs no gate: passes and closures of a null gate hold nothing,
// and a fault then waits for no installer, who may have lost his processor in the middle.
//
// Thread safety: any number of installers, one reader.
#ifndef FAULTLINE_ENGINE_INSTALL_GATE_H_
#define FAULTLINE_ENGINE_INSTALL_GATE_H_

#include <atomic>
#include <cstdint>

namespace faultline {

class InstallGate {
 public:
  // Held by an installer while it installs.
  class Pass {
   public:
    explicit Pass(InstallGate* gate) : gate_(gate) {
      if (gate_ != nullptr) gate_->Enter();
    }
    ~Pass() {
      if (gate_ != nullptr) gate_->Leave();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    InstallGate* const gate_;
  };

  // Held by the reader while it reads and applies events. It has precedence: nobody enters once it
  // waits.
  class Closure {
   public:
    explicit Closure(InstallGate* gate) : gate_(gate) {
      if (gate_ != nullptr) gate_->Close();
    }
    ~Closure() {
      if (gate_ != nullptr) gate_->Open();
    }
    Closure(const Closure&) = delete;
    Closure& operator=(const Closure&) = delete;

   private:
    InstallGate* const gate_;
  };

 private:
  void Enter();
  void Leave();
  void Close();
  void Open();

  std::atomic<uint32_t> closed_{0};
  std::atomic<uint32_t> inside_{0};
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_INSTALL_GATE_H_
