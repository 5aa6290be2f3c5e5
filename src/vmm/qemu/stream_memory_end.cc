#include "vmm/qemu/stream_memory_end.h"

#include <string_view>

namespace faultline {
namespace {

constexpr uint32_t kMagic = 0x5145564d;  // "QEVM"
constexpr uint32_t kVersion = 3;
constexpr uint32_t kMemoryVersion = 4;

// What a section begins with.
constexpr uint8_t kStart = 0x01;
constexpr uint8_t kPart = 0x02;
constexpr uint8_t kEnd = 0x03;
constexpr uint8_t kSubsection = 0x05;
constexpr uint8_t kConfiguration = 0x07;
constexpr uint8_t kCommand = 0x08;
constexpr uint8_t kFooter = 0x7e;

// In the low bits of an address in memory.
constexpr uint64_t kFlags = 0xfff;
constexpr uint64_t kFilledPage = 0x02;
constexpr uint64_t kBlocks = 0x04;
constexpr uint64_t kPage = 0x08;
constexpr uint64_t kSectionEnds = 0x10;
constexpr uint64_t kSameBlock = 0x20;  // the page lies in the block of the one before
constexpr uint64_t kFlush = 0x200;     // QEMU 8.1 says it also where there is nothing to flush

constexpr uint16_t kSwitchoverStart = 11;  // a command that says nothing more

constexpr size_t kPageBytes = 4096;
constexpr size_t kRecordBytesMax = 64 << 10;  // the longest is the list of all blocks
constexpr size_t kMachineNameBytesMax = 256;

}  // namespace

// Takes numbers and texts from the front of some bytes. Where they end too early it is short, and
// everything from there on is zero or empty.
class StreamMemoryEnd::Record {
 public:
  explicit Record(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Number(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Number(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Number(4)); }
  uint64_t U64() { return Number(8); }
  void Skip(size_t count) { Bytes(count); }
  // Its length in one byte is before it.
  std::string_view Name() {
    const std::span<const std::byte> name = Bytes(U8());
    return {reinterpret_cast<const char*>(name.data()), name.size()};
  }

  bool is_short() const { return short_; }
  size_t taken() const { return taken_; }

 private:
  std::span<const std::byte> Bytes(size_t count) {
    short_ = short_ || bytes_.size() - taken_ < count;
    if (short_) return {};
    taken_ += count;
    return bytes_.subspan(taken_ - count, count);
  }
  // Big-endian, as the whole stream is.
  uint64_t Number(size_t count) {
    uint64_t number = 0;
    for (std::byte byte : Bytes(count)) number = number << 8 | static_cast<uint8_t>(byte);
    return number;
  }

  const std::span<const std::byte> bytes_;
  size_t taken_ = 0;
  bool short_ = false;
};

StreamMemoryEnd::Found StreamMemoryEnd::Add(std::span<const std::byte> bytes) {
  if (at_.found != Found::kNotYet) return at_.found;
  rest_.insert(rest_.end(), bytes.begin(), bytes.end());
  std::span<const std::byte> left = rest_;
  while (true) {
    Record record(left);
    const Position after = After(at_, &record);
    if (record.is_short()) break;
    at_ = record.taken() <= kRecordBytesMax ? after : Lost();
    if (at_.found != Found::kNotYet) return at_.found;
    bytes_before_ += record.taken();
    left = left.subspan(record.taken());
  }
  if (left.size() > kRecordBytesMax) at_ = Lost();
  rest_.erase(rest_.begin(), rest_.end() - static_cast<ptrdiff_t>(left.size()));
  return at_.found;
}

StreamMemoryEnd::Position StreamMemoryEnd::After(Position at, Record* record) {
  switch (at.next) {
    case Next::kHeader:
      return AfterHeader(record);
    case Next::kSection:
      return AfterSection(at, record);
    case Next::kMemory:
      return AfterMemory(at, record);
  }
  return Lost();
}

StreamMemoryEnd::Position StreamMemoryEnd::AfterHeader(Record* record) {
  if (record->U32() != kMagic || record->U32() != kVersion) return Lost();
  return {.found = Found::kNotYet, .next = Next::kSection, .memory_id = {}};
}

StreamMemoryEnd::Position StreamMemoryEnd::AfterSection(Position at, Record* record) {
  const uint8_t type = record->U8();
  if (type == kConfiguration) {
    const uint32_t name_bytes = record->U32();
    if (name_bytes > kMachineNameBytesMax) return Lost();
    record->Skip(name_bytes);
    return at;
  }
  if (type == kSubsection) return AfterCapabilities(at, record);
  if (type == kCommand) {
    const bool known = record->U16() == kSwitchoverStart && record->U16() == 0;
    return known ? at : Lost();
  }
  if (type != kStart && type != kPart && type != kEnd && type != kFooter) return Lost();
  const uint32_t id = record->U32();
  if (type == kStart) {
    // Other parts that are saved while the VM runs have records of their own.
    if (at.memory_id.has_value() || record->Name() != "ram") return Lost();
    record->Skip(sizeof(uint32_t));  // which of several
    if (record->U32() != kMemoryVersion) return Lost();
    Position after = AfterSetup(record);
    after.memory_id = id;
    return after;
  }
  if (at.memory_id != id) return Lost();
  if (type == kPart) at.next = Next::kMemory;
  if (type == kEnd) at.found = Found::kEnd;
  return at;
}

// Those that are on and that the other side must have as well.
StreamMemoryEnd::Position StreamMemoryEnd::AfterCapabilities(Position at, Record* record) {
  if (record->Name() != "configuration/capabilities") return Lost();
  record->Skip(sizeof(uint32_t));  // its version
  for (uint32_t left = record->U32(); left > 0 && !record->is_short(); --left) {
    // Others change what the records of memory look like.
    if (record->Name() != "x-ignore-shared") return Lost();
  }
  return at;
}

StreamMemoryEnd::Position StreamMemoryEnd::AfterSetup(Record* record) {
  const uint64_t first = record->U64();
  if ((first & kFlags) != kBlocks) return Lost();
  uint64_t left = first & ~kFlags;
  while (left > 0 && !record->is_short()) {
    record->Name();
    const uint64_t bytes = record->U64();
    if (bytes > left) return Lost();
    left -= bytes;
    record->Skip(sizeof(uint64_t));  // where the guest has it: x-ignore-shared
  }
  uint64_t last = record->U64();
  if (last == kFlush) last = record->U64();
  if (last != kSectionEnds) return Lost();
  return {.found = Found::kNotYet, .next = Next::kSection, .memory_id = {}};
}

StreamMemoryEnd::Position StreamMemoryEnd::AfterMemory(Position at, Record* record) {
  const uint64_t flags = record->U64() & kFlags;
  if (flags == kSectionEnds) {
    at.next = Next::kSection;
    return at;
  }
  if (flags == kFlush) return at;
  const uint64_t kind = flags & ~kSameBlock;
  if (kind != kFilledPage && kind != kPage) return Lost();
  if ((flags & kSameBlock) == 0) record->Name();
  record->Skip(kind == kPage ? kPageBytes : 1);
  return at;
}

}  // namespace faultline
