// What several messages are made of, written and read. Internal to the codec.
#ifndef FAULTLINE_PROTOCOL_MESSAGE_PARTS_H_
#define FAULTLINE_PROTOCOL_MESSAGE_PARTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pages/memory_layout.h"
#include "pages/page_range_set.h"
#include "pages/page_types.h"
#include "protocol/wire_bytes.h"

namespace faultline {

// All that read make the message bad because of the field where something does not fit.

// Cut where it is too long.
void WriteText(std::string_view text, WireWriter& writer);
// Texts end on somebody's terminal: control characters (escape sequences) are replaced.
std::string ReadText(const char* field, WireReader& reader);

// A valid one.
void WriteLayout(const MemoryLayout& layout, WireWriter& writer);
MemoryLayout ReadLayout(WireReader& reader);

void ReadMagic(WireReader& reader);
// What was read of `field` has to be 0.
void ReadZero(const char* field, uint64_t value, WireReader& reader);
bool ReadFlag(const char* field, WireReader& reader);
uint64_t ReadPageCount(const char* field, WireReader& reader);
uint32_t ReadRound(WireReader& reader);

// At most kRangesPerMessageMax, ascending and separate.
void WriteRanges(RegionIndex region, const std::vector<PageRange>& ranges, WireWriter& writer);
void ReadRanges(RegionIndex* region, std::vector<PageRange>* ranges, WireReader& reader);
// The same, packed: each range as the gap before it and one less than its length, seven bits a
// byte, the lowest first.
void WritePackedRanges(RegionIndex region, const std::vector<PageRange>& ranges,
                       WireWriter& writer);
void ReadPackedRanges(RegionIndex* region, std::vector<PageRange>* ranges, WireReader& reader);

}  // namespace faultline

#endif  // FAULTLINE_PROTOCOL_MESSAGE_PARTS_H_
