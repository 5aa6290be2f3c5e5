#include "vmm/qemu/stream_memory_end.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "vmm/qemu/device_relay.h"

namespace faultline {
namespace {

using Found = StreamMemoryEnd::Found;

constexpr uint32_t kId = 2;

std::string Number(uint64_t number, int bytes) {
  std::string text;
  while (bytes-- > 0) text += static_cast<char>(number >> (8 * bytes));
  return text;
}
std::string Name(std::string_view name) { return Number(name.size(), 1) + std::string(name); }

// What QEMU sends, in its order.
std::string Header() { return "QEVM" + Number(3, 4); }
std::string Machine() { return '\x07' + Number(9, 4) + "pc-q35-10"; }
std::string Capabilities(std::string_view capability) {
  return '\x05' + Name("configuration/capabilities") + Number(1, 4) + Number(1, 4) +
         Name(capability);
}
std::string Block(std::string_view name, uint64_t bytes) {
  return Name(name) + Number(bytes, 8) + Number(0xfffc0000, 8);
}
std::string Blocks(std::string_view part = "ram", uint32_t version = 4) {
  return '\x01' + Number(kId, 4) + Name(part) + Number(0, 4) + Number(version, 4) +
         Number(0x42000 | 0x04, 8) + Block("ram0", 0x40000) + Block("pc.rom", 0x2000) +
         Number(0x10, 8);
}
std::string Footer() { return '\x7e' + Number(kId, 4); }
std::string Memory(const std::string& records) {
  return '\x02' + Number(kId, 4) + records + Number(0x10, 8) + Footer();
}
std::string FilledPage() { return Number(0x1000 | 0x02, 8) + Name("pc.rom") + Number(0, 1); }
// Its bytes look like memory's last section.
std::string Page() {
  std::string bytes;
  while (bytes.size() < 4096) bytes += '\x03' + Number(kId, 4);
  return Number(0x08 | 0x20, 8) + bytes.substr(0, 4096);
}
std::string Switchover() { return '\x08' + Number(11, 2) + Number(0, 2); }
std::string End() { return '\x03' + Number(kId, 4); }
std::string Devices() { return Number(0x10, 8) + Footer() + '\x04' + "whatever there is"; }

std::string BeforeTheEnd() {
  return Header() + Machine() + Capabilities("x-ignore-shared") + Blocks() + Footer() +
         Memory(FilledPage() + Page()) + Memory("") + Switchover();
}

Found Add(StreamMemoryEnd* end, std::string_view bytes) {
  return end->Add(std::as_bytes(std::span(bytes)));
}
Found AddAlone(std::string_view bytes) {
  StreamMemoryEnd end;
  return Add(&end, bytes);
}

TEST(StreamMemoryEndTest, ItIsWhereMemorysLastSectionBegins) {
  EXPECT_EQ(AddAlone(BeforeTheEnd()), Found::kNotYet);
  EXPECT_EQ(AddAlone(BeforeTheEnd() + End().substr(0, 4)), Found::kNotYet);
  EXPECT_EQ(AddAlone(BeforeTheEnd() + End()), Found::kEnd);
  EXPECT_EQ(AddAlone(BeforeTheEnd() + End() + Devices()), Found::kEnd);
}

TEST(StreamMemoryEndTest, HoweverTheStreamIsCut) {
  const std::string whole = BeforeTheEnd() + End() + Devices();
  const size_t found_at = (BeforeTheEnd() + End()).size();
  for (size_t piece : {1, 7, 1000}) {
    StreamMemoryEnd end;
    for (size_t at = 0; at < whole.size(); at += piece) {
      const Found found = Add(&end, std::string_view(whole).substr(at, piece));
      EXPECT_EQ(found, at + piece >= found_at ? Found::kEnd : Found::kNotYet) << at;
    }
    EXPECT_EQ(end.bytes_before(), BeforeTheEnd().size());
  }
}

TEST(StreamMemoryEndTest, OlderMachinesHaveNoFooters) {
  const std::string setup = Header() + Blocks();
  EXPECT_EQ(AddAlone(setup + '\x02' + Number(kId, 4) + FilledPage() + Number(0x10, 8) + End()),
            Found::kEnd);
}

TEST(StreamMemoryEndTest, FlushesOfNothingArePassedOver) {
  const std::string flush = Number(0x200, 8);
  std::string stream = Header() + Machine() + Blocks();
  stream.insert(stream.size() - 8, flush);
  EXPECT_EQ(AddAlone(stream + Footer() + Memory(flush + FilledPage() + flush) + End()),
            Found::kEnd);
}

TEST(StreamMemoryEndTest, WhatIsNotKnownIsSaid) {
  const std::string setup = Header() + Machine() + Blocks() + Footer();
  for (const std::string& stream : {
           std::string("QEVX") + Number(3, 4),
           "QEVM" + Number(2, 4),
           Header() + '\x07' + Number(300, 4),
           Header() + Capabilities("xbzrle"),
           Header() + '\x05' + Name("configuration/target-page-bits") + Number(1, 4),
           Header() + Blocks("dirty-bitmap"),
           Header() + Blocks("ram", 5),
           Header() + End(),
           setup + Blocks(),
           setup + '\x02' + Number(kId + 1, 4),
           setup + '\x03' + Number(kId + 1, 4),
           setup + '\x04' + Number(kId, 4),
           setup + '\x08' + Number(4, 2) + Number(0, 2),
           setup + Memory(Number(0x1000 | 0x40, 8)),
       }) {
    EXPECT_EQ(AddAlone(stream), Found::kLost);
    StreamMemoryEnd end;
    Add(&end, stream);
    const uint64_t before = end.bytes_before();
    EXPECT_LT(before, stream.size());
    EXPECT_EQ(Add(&end, End()), Found::kLost);
    EXPECT_EQ(end.bytes_before(), before);
  }
}

TEST(StreamMemoryEndTest, BlocksAreAsLongTogetherAsItWasSaid) {
  const std::string begin = Header() + '\x01' + Number(kId, 4) + Name("ram") + Number(0, 4) +
                            Number(4, 4) + Number(0x2000 | 0x04, 8);
  EXPECT_EQ(AddAlone(begin + Block("a", 0x1000) + Block("b", 0x1000) + Number(0x10, 8)),
            Found::kNotYet);
  EXPECT_EQ(AddAlone(begin + Block("a", 0x3000) + Number(0x10, 8)), Found::kLost);
  // Of no length, without end: it is not followed for ever.
  std::string endless = begin;
  while (endless.size() < 60'000) endless += Block("a", 0);
  EXPECT_EQ(AddAlone(endless), Found::kNotYet);
  while (endless.size() < 70'000) endless += Block("a", 0);
  EXPECT_EQ(AddAlone(endless), Found::kLost);
}

// Whoever gets the pieces may load the first part before the VM stands still.
TEST(DeviceStreamReaderTest, MemoryIsToldFromTheRest) {
  for (const bool known : {true, false}) {
    const std::string rest = known ? End() + Devices() : Blocks("dirty-bitmap") + Devices();
    auto ends = MakeSocketPair();
    ASSERT_TRUE(ends.ok()) << ends.status();
    std::string memory_part;
    std::string rest_part;
    const std::string whole = BeforeTheEnd() + rest;
    {
      DeviceStreamReader reader(
          std::move(ends->first), [&](StreamPart part, const std::vector<std::byte>& bytes) {
            EXPECT_TRUE(part == StreamPart::kRest || rest_part.empty());
            std::string& to = part == StreamPart::kMemory ? memory_part : rest_part;
            to.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          });
      ASSERT_EQ(write(ends->second.get(), whole.data(), whole.size()),
                static_cast<ssize_t>(whole.size()));
      const absl::StatusOr<bool> found = reader.WaitForMemoryEnd(nullptr, 10'000);
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(*found, known);
      ends->second.Reset();
      ASSERT_TRUE(reader.WaitForEnd(nullptr, 10'000).ok());
    }  // its thread has ended
    EXPECT_EQ(memory_part, BeforeTheEnd());
    EXPECT_EQ(rest_part, rest);
  }
}

}  // namespace
}  // namespace faultline
