// A peer that speaks the protocol's words at the wrong time or with other content -> both sessions,
// over fakes on a virtual clock. Each control message of a migration may be lost, the connection be
// cut before it, or another message come in its place. Neither side may break its own invariants
// (nor the seams', which the fakes check), and each that ends says why.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "base/check.h"
#include "engine/migration_rig.h"
#include "fuzz/fuzz_input.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

constexpr int64_t kRunUs = 60'000'000;
constexpr int kCutsMax = 4;

// Decides by the input what becomes of each control message.
class Tamperer {
 public:
  Tamperer(FuzzInput* input, FakeNetwork* network) : input_(input) {
    network->set_control_hook([this](const Message&, bool) { return FateOfNext(); });
    network->set_rewriter([this](const Message&) { return std::exchange(instead_, std::nullopt); });
  }
  bool TakeCut() { return std::exchange(cut_, false); }

 private:
  // The rewriter is asked after this, about the same message.
  FakeFate FateOfNext() {
    instead_.reset();
    if (skip_ > 0) {
      --skip_;
      return FakeFate::kDeliver;
    }
    if (input_->empty()) return FakeFate::kDeliver;
    const uint8_t word = input_->U8();
    switch (word % 8) {
      case 0:
        return FakeFate::kDrop;
      case 1:
      case 2:
        if (++cuts_ > kCutsMax) return FakeFate::kDeliver;
        cut_ = true;
        return word % 8 == 1 ? FakeFate::kCut : FakeFate::kCutAfter;
      case 3:
      case 4:
      case 5:
        Replace(input_->Bytes(input_->U8()));
        return FakeFate::kDeliver;
      default:
        skip_ = word / 8;
        return FakeFate::kDeliver;
    }
  }

  void Replace(std::span<const uint8_t> bytes) {
    const auto decoded = DecodeMessage(std::as_bytes(bytes));
    if (decoded.ok() && decoded->bytes_used > 0) instead_ = decoded->message;
  }

  FuzzInput* const input_;
  uint8_t skip_ = 0;
  bool cut_ = false;
  int cuts_ = 0;
  std::optional<Message> instead_;
};

void CheckResult(const std::optional<SessionResult>& result) {
  if (!result.has_value()) return;
  FAULTLINE_CHECK(result->status.ok() || !result->status.message().empty());
  FAULTLINE_CHECK(!result->status.ok() || result->owner == VmOwner::kDestination);
}

void Migrate(FuzzInput* input) {
  RigOptions options;
  if (const uint8_t word = input->U8(); word % 2 == 1) options.seed = word;
  MigrationRig rig(options);
  rig.limits.recovery_timeout_us = 5'000'000;
  Tamperer tamperer(input, &rig.network);
  const int64_t end_ns = rig.clock.now_ns() + kRunUs * 1000;
  rig.Start();
  bool cut = false;
  const auto ended = [&] {
    return rig.source_result.has_value() && rig.destination_result.has_value();
  };
  while (!ended() && rig.clock.now_ns() < end_ns) {
    rig.RunUntil([&] { return ended() || (cut = tamperer.TakeCut()); },
                 (end_ns - rig.clock.now_ns()) / 1000);
    if (!std::exchange(cut, false)) break;
    rig.clock.AdvanceBy(150'000);
    rig.network.Mend();
  }
  CheckResult(rig.source_result);
  CheckResult(rig.destination_result);
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  faultline::FuzzInput input(data, size);
  faultline::Migrate(&input);
  return 0;
}
