// Fuzz target: what both sides say of runs that the source writes. Input: operations, each with the
// bytes of a grant, or of a name, where it has some. Each side is held to a model of it that keeps
// nothing but who has which slot.
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "fuzz_input.h"
#include "protocol/codec.h"
#include "transport/rdma/write_arrivals.h"
#include "transport/rdma/write_credits.h"

namespace faultline {
namespace {

constexpr uint32_t kSlotBytes = 256 * 1024;
constexpr std::array<uint16_t, 2> kRails = {0, 2};

template <size_t N>
std::array<std::byte, N> BytesOf(FuzzInput* input) {
  std::array<std::byte, N> bytes{};
  std::ranges::copy(std::as_bytes(input->Bytes(N)), bytes.begin());
  return bytes;
}

bool IsRail(uint16_t rail) { return rail == kRails[0] || rail == kRails[1]; }

void CheckRefusal(const absl::Status& status) {
  FAULTLINE_CHECK(absl::IsInvalidArgument(status) &&
                  MessageOf(status).find("field '") != std::string::npos);
}

// The source's end: what a destination grants.
class Source {
 public:
  void TakeGrant(FuzzInput* input, bool near) {
    WriteGrant grant = DecodeWriteGrant(BytesOf<kWriteGrantBytes>(input));
    if (near) grant = {grant.address, grant.key, kSlotBytes, kRails[grant.rail % 2], grant.slot};
    if (near) grant.slot %= kRdmaSlotsGranted + 1;
    const bool right = IsRail(grant.rail) && grant.slot < kRdmaSlotsGranted &&
                       grant.bytes == kSlotBytes &&
                       grant.address <= std::numeric_limits<uint64_t>::max() - kSlotBytes &&
                       !granted_[grant.rail][grant.slot];
    const absl::Status status = credits_.Add(grant);
    FAULTLINE_CHECK(status.ok() == right);
    if (!right) return CheckRefusal(status);
    granted_[grant.rail][grant.slot] = true;
    taken_ -= std::exchange(used_[grant.rail][grant.slot], false) ? 1 : 0;
    order_[grant.rail].push_back(grant);
  }

  void Use(uint16_t rail) {
    FAULTLINE_CHECK(credits_.has_any(rail) == !order_[rail].empty());
    if (order_[rail].empty()) return;
    const WriteGrant grant = credits_.Take(rail);
    FAULTLINE_CHECK(grant == order_[rail].front());
    order_[rail].pop_front();
    granted_[rail][grant.slot] = false;
    used_[rail][grant.slot] = true;
    FAULTLINE_CHECK(credits_.outstanding() == ++taken_);
  }

 private:
  using Slots = std::array<bool, kRdmaSlotsGranted>;
  WriteCredits credits_{{kRails[0], kRails[1]}, kSlotBytes};
  std::array<Slots, 3> granted_{};
  std::array<Slots, 3> used_{};
  std::array<std::deque<WriteGrant>, 3> order_;
  uint32_t taken_ = 0;
};

// The destination's end: what a source names, and what arrives.
class Destination {
 public:
  Destination() {
    for (const uint16_t rail : kRails) {
      for (uint16_t slot = 0; slot < kRdmaSlotsGranted; ++slot) Grant({rail, slot});
    }
  }

  void TakeName(FuzzInput* input, bool near) {
    WrittenSlot at = DecodeWrittenSlot(BytesOf<kWrittenSlotBytes>(input));
    if (near) at = {kRails[at.rail % 2], static_cast<uint16_t>(at.slot % kRdmaSlotsGranted)};
    const bool right = IsRail(at.rail) && at.slot < kRdmaSlotsGranted && granted_[at.rail][at.slot];
    const absl::Status status = arrivals_.Name({{0, next_, 1}, 4096, at});
    FAULTLINE_CHECK(status.ok() == right);
    if (!right) return CheckRefusal(status);
    granted_[at.rail][at.slot] = false;
    named_[at.rail].emplace_back(next_++, at);
    CheckWhole();
  }

  // No more than there are receives for: one for each slot that was granted.
  void Arrive(uint16_t rail) {
    if (receives_[rail] == 0) return;
    --receives_[rail];
    ++arrived_[rail];
    arrivals_.Arrive(rail);
    CheckWhole();
  }

  void TakeFirst() {
    if (!arrivals_.has_whole()) return;
    const WriteArrivals::Run first = arrivals_.TakeFirst();
    auto& named = named_[first.at.rail];
    FAULTLINE_CHECK(arrived_[first.at.rail]-- > 0 && !named.empty());
    FAULTLINE_CHECK(named.front() == std::pair(first.run.first, first.at));
    named.pop_front();
    Grant(first.at);
    CheckWhole();
  }

 private:
  void Grant(const WrittenSlot& at) {
    arrivals_.Grant(at);
    granted_[at.rail][at.slot] = true;
    ++receives_[at.rail];
  }

  void CheckWhole() const {
    bool any_whole = false;
    bool any_named = false;
    for (const uint16_t rail : kRails) {
      any_named = any_named || !named_[rail].empty();
      any_whole = any_whole || (!named_[rail].empty() && arrived_[rail] > 0);
    }
    FAULTLINE_CHECK(arrivals_.has_whole() == any_whole && arrivals_.idle() == !any_named);
  }

  WriteArrivals arrivals_;
  std::array<std::array<bool, kRdmaSlotsGranted>, 3> granted_{};
  std::array<uint32_t, 3> receives_{};
  std::array<uint32_t, 3> arrived_{};
  std::array<std::deque<std::pair<uint64_t, WrittenSlot>>, 3> named_;  // and not taken
  uint64_t next_ = 0;
};

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  faultline::FuzzInput input(data, size);
  faultline::Source source;
  faultline::Destination destination;
  while (!input.empty()) {
    const uint8_t word = input.U8();
    const bool near = (word & 0x80) != 0;
    const uint16_t rail = faultline::kRails[(word >> 6) & 1];
    switch (word % 5) {
      case 0:
        source.TakeGrant(&input, near);
        break;
      case 1:
        source.Use(rail);
        break;
      case 2:
        destination.TakeName(&input, near);
        break;
      case 3:
        destination.Arrive(rail);
        break;
      default:
        destination.TakeFirst();
    }
  }
  return 0;
}
