#include "protocol/message_parts.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "protocol/codec.h"

namespace faultline {
namespace {

constexpr uint64_t kPagesPerRegionMax = kRegionBytesMax / kPageBytesMin;

// Seven bits a byte, the lowest first; the highest bit says that more follow.
void WriteVarint(uint64_t value, WireWriter& writer) {
  for (; value >= 0x80; value >>= 7) writer.U8(static_cast<uint8_t>(value | 0x80));
  writer.U8(static_cast<uint8_t>(value));
}

// In one form only: the shortest.
uint64_t ReadVarint(const char* field, WireReader& reader) {
  constexpr int kBytesMax = 6;  // of a page number and more
  uint64_t value = 0;
  for (int i = 0; i < kBytesMax; ++i) {
    const uint8_t byte = reader.U8(field);
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte >= 0x80) continue;
    if (byte == 0 && i != 0) reader.Fail(field, "is longer than it must be");
    return value;
  }
  reader.Fail(field, fmt::format("has more than {} bytes", kBytesMax));
  return 0;
}

}  // namespace

void WriteText(std::string_view text, WireWriter& writer) {
  text = text.substr(0, kErrorTextBytesMax);
  writer.U32(static_cast<uint32_t>(text.size()));
  writer.Bytes(std::as_bytes(std::span(text)));
}

std::string ReadText(const char* field, WireReader& reader) {
  uint32_t count = reader.U32(field);
  if (count > kErrorTextBytesMax) {
    reader.Fail(field,
                fmt::format("has {} bytes, at most {} are allowed", count, kErrorTextBytesMax));
  }
  std::string text;
  for (std::byte byte : reader.Bytes(field, count)) {
    auto c = static_cast<unsigned char>(byte);
    bool plain = (c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t';
    text.push_back(plain ? static_cast<char>(c) : '?');
  }
  return text;
}

void WriteLayout(const MemoryLayout& layout, WireWriter& writer) {
  FAULTLINE_CHECK(ValidateLayout(layout).ok());
  writer.U32(static_cast<uint32_t>(layout.size()));
  for (const RegionLayout& region : layout) {
    writer.U64(region.size_bytes);
    writer.U64(region.page_size_bytes);
    writer.U16(static_cast<uint16_t>(region.name.size()));
    writer.Bytes(std::as_bytes(std::span(region.name)));
  }
}

MemoryLayout ReadLayout(WireReader& reader) {
  MemoryLayout layout;
  uint32_t count = reader.U32("layout.count");
  if (count > kRegionsMax) {
    reader.Fail("layout.count", fmt::format("is {}, at most {} are allowed", count, kRegionsMax));
  }
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    RegionLayout region;
    region.size_bytes = reader.U64("layout.size_bytes");
    region.page_size_bytes = reader.U64("layout.page_size_bytes");
    uint16_t name_bytes = reader.U16("layout.name");
    for (std::byte byte : reader.Bytes("layout.name", name_bytes)) {
      auto c = static_cast<unsigned char>(byte);
      if (c < 0x20 || c == 0x7f) reader.Fail("layout.name", "holds a control character");
      region.name.push_back(static_cast<char>(c));
    }
    layout.push_back(std::move(region));
  }
  if (reader.ok()) {
    if (absl::Status status = ValidateLayout(layout); !status.ok()) {
      reader.Fail("layout", "is not valid: " + MessageOf(status));
    }
  }
  return layout;
}

void ReadMagic(WireReader& reader) {
  uint32_t magic = reader.U32("magic");
  if (magic != kProtocolMagic) {
    reader.Fail("magic", fmt::format("is {:#010x} and not {:#010x}: the peer is not Faultline",
                                     magic, kProtocolMagic));
  }
}

void ReadZero(const char* field, uint64_t value, WireReader& reader) {
  if (value != 0) reader.Fail(field, fmt::format("is {}, it must be 0", value));
}

bool ReadFlag(const char* field, WireReader& reader) {
  uint8_t flag = reader.U8(field);
  if (flag > 1) reader.Fail(field, fmt::format("is {}, neither 0 nor 1", flag));
  return flag == 1;
}

uint64_t ReadPageCount(const char* field, WireReader& reader) {
  uint64_t pages = reader.U64(field);
  if (pages > kRegionsMax * kPagesPerRegionMax) {
    reader.Fail(field, fmt::format("is {}, more pages than a VM can have", pages));
  }
  return pages;
}

void WriteRanges(RegionIndex region, const std::vector<PageRange>& ranges, WireWriter& writer) {
  FAULTLINE_CHECK(region < kRegionsMax);
  FAULTLINE_CHECK(ranges.size() <= kRangesPerMessageMax);
  writer.U32(region);
  writer.U32(static_cast<uint32_t>(ranges.size()));
  for (const PageRange& range : ranges) {
    writer.U64(range.first);
    writer.U64(range.end);
  }
}

void ReadRanges(RegionIndex* region, std::vector<PageRange>* ranges, WireReader& reader) {
  *region = reader.U32("region");
  if (*region >= kRegionsMax) {
    reader.Fail("region", fmt::format("is {}, there are at most {}", *region, kRegionsMax));
  }
  uint32_t count = reader.U32("ranges.count");
  if (count > kRangesPerMessageMax || count * size_t{16} > reader.bytes_left()) {
    reader.Fail("ranges.count", fmt::format("is {}; the message has room for {}, at most {} are "
                                            "allowed",
                                            count, reader.bytes_left() / 16, kRangesPerMessageMax));
    return;
  }
  ranges->reserve(count);
  uint64_t end_before = 0;
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    PageRange range;
    range.first = reader.U64("ranges.first");
    range.end = reader.U64("ranges.end");
    if (range.first < end_before || range.end <= range.first || range.end > kPagesPerRegionMax) {
      reader.Fail("ranges", fmt::format("has range {} as [{}, {}), after a range that ends at {}",
                                        i, range.first, range.end, end_before));
    }
    end_before = range.end;
    ranges->push_back(range);
  }
}

void WritePackedRanges(RegionIndex region, const std::vector<PageRange>& ranges,
                       WireWriter& writer) {
  FAULTLINE_CHECK(region < kRegionsMax);
  FAULTLINE_CHECK(ranges.size() <= kRangesPerMessageMax);
  writer.U32(region);
  writer.U32(static_cast<uint32_t>(ranges.size()));
  uint64_t end_before = 0;
  for (const PageRange& range : ranges) {
    FAULTLINE_CHECK(range.first >= end_before && range.end > range.first);
    WriteVarint(range.first - end_before, writer);
    WriteVarint(range.count() - 1, writer);
    end_before = range.end;
  }
}

void ReadPackedRanges(RegionIndex* region, std::vector<PageRange>* ranges, WireReader& reader) {
  *region = reader.U32("region");
  if (*region >= kRegionsMax) {
    reader.Fail("region", fmt::format("is {}, there are at most {}", *region, kRegionsMax));
  }
  const uint32_t count = reader.U32("ranges.count");
  if (count > kRangesPerMessageMax || count * size_t{2} > reader.bytes_left()) {
    reader.Fail("ranges.count", fmt::format("is {}; the message has room for {}, at most {} are "
                                            "allowed",
                                            count, reader.bytes_left() / 2, kRangesPerMessageMax));
    return;
  }
  ranges->reserve(count);
  uint64_t end_before = 0;
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    PageRange range;
    range.first = end_before + ReadVarint("ranges.gap", reader);
    range.end = range.first + ReadVarint("ranges.count", reader) + 1;
    if (range.end > kPagesPerRegionMax) {
      reader.Fail("ranges", fmt::format("has range {} as [{}, {}), beyond {} pages", i, range.first,
                                        range.end, kPagesPerRegionMax));
    }
    end_before = range.end;
    ranges->push_back(range);
  }
}

uint32_t ReadRound(WireReader& reader) {
  const uint32_t round = reader.U32("round");
  if (round == 0 || round > kRoundMax) {
    reader.Fail("round", fmt::format("is {}, it must be 1 to {}", round, kRoundMax));
  }
  return round;
}

}  // namespace faultline
