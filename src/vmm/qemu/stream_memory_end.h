// Where the memory ends in QEMU's migration stream, and its devices begin.
#ifndef FAULTLINE_VMM_QEMU_STREAM_MEMORY_END_H_
#define FAULTLINE_VMM_QEMU_STREAM_MEMORY_END_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace faultline {

// Follows the stream of a QEMU that was asked for `x-ignore-shared`: a header, the machine's name,
// then sections (QEMU's docs/devel/migration; the records of memory are in its migration/ram.c), of
// a machine whose pages have 4 KiB. QEMU begins memory's last section when the VM's CPUs have been
// stopped and its disks drained, and saves no device before: nothing writes the VM's memory any
// more.
class StreamMemoryEnd {
 public:
  enum class Found : uint8_t {
    kNotYet,
    kEnd,   // memory's last section has begun
    kLost,  // something came that is not known here: where memory ends cannot be told
  };

  // The next bytes, cut anywhere. What is not kNotYet stays.
  Found Add(std::span<const std::byte> bytes);
  // Of the bytes of all calls until it was found: how many come before memory's last section, or
  // before what is not known.
  uint64_t bytes_before() const { return bytes_before_; }

 private:
  class Record;
  enum class Next : uint8_t { kHeader, kSection, kMemory };
  struct Position {
    Found found = Found::kNotYet;
    Next next = Next::kHeader;
    std::optional<uint32_t> memory_id;  // once its first section has come
  };

  // Where the stream is after this record, if the record is whole.
  static Position After(Position at, Record* record);
  static Position AfterHeader(Record* record);
  static Position AfterSection(Position at, Record* record);
  static Position AfterCapabilities(Position at, Record* record);
  static Position AfterSetup(Record* record);
  static Position AfterMemory(Position at, Record* record);
  static Position Lost() { return {.found = Found::kLost, .next = {}, .memory_id = {}}; }

  Position at_;
  uint64_t bytes_before_ = 0;
  std::vector<std::byte> rest_;  // of a record that is not whole
};

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_STREAM_MEMORY_END_H_
