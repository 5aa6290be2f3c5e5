// What a peer sends, cut anywhere, into each of the parts that read a connection: greeting, control
// channel, page reader, page exporter, push receiver. How the bytes were cut must not show, and the
// peer's end is always noticed. With and without check sums of pages.
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/file_descriptor.h"
#include "fuzz/fuzz_input.h"
#include "pages/page_digest.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"
#include "transport/tcp/run_packer.h"
#include "transport/tcp/tcp_control_channel.h"
#include "transport/tcp/tcp_greeting.h"
#include "transport/tcp/tcp_page_exporter.h"
#include "transport/tcp/tcp_page_reader.h"
#include "transport/tcp/tcp_push_receiver.h"

namespace faultline {
namespace {

using Bytes = std::vector<std::byte>;

// The second region's pages are larger than a reader's own buffer.
const MemoryLayout kLayout = {{"ram", 0x20000, 0x1000}, {"huge", 0x100000, 0x80000}};
constexpr size_t kHugeRunsMax = 2;
constexpr size_t kFramesMax = 24;

LaneTerms TermsOf(bool integrity) { return {.layout = kLayout, .integrity = integrity}; }

void AddDigest(uint64_t digest, Bytes* out) {
  std::array<std::byte, kPageDigestBytes> bytes;
  EncodePageDigest(digest, bytes);
  out->insert(out->end(), bytes.begin(), bytes.end());
}

std::byte ByteOf(PageId page) { return static_cast<std::byte>(1 + page.region + 2 * page.index); }

// --- What the peer sends ---

class Script {
 public:
  Script(FuzzInput* input, bool integrity) : input_(input), integrity_(integrity) {}

  // Frames as the input wants them, right or damaged, with raw bytes between.
  Bytes Frames() {
    for (size_t frames = 0; frames < kFramesMax && !input_->empty(); ++frames) {
      const uint8_t word = input_->U8();
      switch (word % 4) {
        case 0:
          Raw(input_->Bytes(input_->U8()));
          break;
        case 1:
          Run(PageFrameKind::kData, PackAlgorithm::kNone, word);
          break;
        case 2:
          Run(PageFrameKind::kPacked,
              (word & 0x40) != 0 ? PackAlgorithm::kZstd : PackAlgorithm::kLz4, word);
          break;
        default:
          if ((word & 0x48) == 0x48) {
            Header({(word & 0x20) != 0 ? PageFrameKind::kRoundEnd : PageFrameKind::kRoundBegin,
                    {0, uint64_t{1} + input_->U8(), 0}});
          } else if ((word & 0x40) != 0) {
            Header({PageFrameKind::kFinished, {}, PackAlgorithm::kNone, 0});
          } else {
            Run(PageFrameKind::kZero, PackAlgorithm::kNone, word);
          }
      }
    }
    return std::move(out_);
  }

 private:
  void Raw(std::span<const uint8_t> bytes) {
    const auto raw = std::as_bytes(bytes);
    out_.insert(out_.end(), raw.begin(), raw.end());
  }

  void Header(const PageFrame& frame) {
    std::array<std::byte, kPageFrameBytes> header;
    EncodePageFrame(frame, header);
    out_.insert(out_.end(), header.begin(), header.end());
  }

  void Run(PageFrameKind kind, PackAlgorithm algorithm, uint8_t word) {
    const RegionIndex region = (word & 0x20) != 0 && huge_runs_++ < kHugeRunsMax ? 1 : 0;
    const RegionLayout& shape = kLayout[region];
    PageFrame frame{kind, {region, input_->U8() % shape.page_count(), 1}, algorithm, 0};
    if ((word & 0x10) != 0 && frame.run.end() < shape.page_count()) ++frame.run.count;
    Bytes data;
    for (uint64_t page = frame.run.first; page < frame.run.end(); ++page) {
      data.insert(data.end(), shape.page_size_bytes, ByteOf({region, page}));
    }
    if (kind == PageFrameKind::kZero) data.clear();
    const uint64_t digest = DigestOfRun(frame.run, data);
    if (kind == PageFrameKind::kPacked) {
      const std::span<const std::byte> packed = packer_.Pack(algorithm, data);
      data.assign(packed.begin(), packed.end());
      frame.packed_bytes = static_cast<uint32_t>(data.size());
    }
    const size_t begin = out_.size();
    Header(frame);
    out_.insert(out_.end(), data.begin(), data.end());
    if (integrity_) AddDigest(digest, &out_);
    if ((word & 0x80) != 0) {
      const uint8_t change = input_->U8();
      out_[begin + input_->U16() % (out_.size() - begin)] ^= static_cast<std::byte>(change);
    }
  }

  FuzzInput* const input_;
  const bool integrity_;
  RunPacker packer_;
  size_t huge_runs_ = 0;
  Bytes out_;
};

// --- The peer ---

// Writes `bytes` in pieces as the loop comes round, takes what is sent back, then closes its end
// and waits for the other one.
class Peer {
 public:
  Peer(Loop* loop, FileDescriptor socket, const Bytes* bytes, uint8_t cut)
      : loop_(loop), socket_(std::move(socket)), bytes_(bytes), state_(cut), whole_(cut == 0) {}

  void Go() {
    loop_->Post([this] { Step(); });
  }
  const Bytes& answers() const { return answers_; }

 private:
  void Step() {
    Drain();
    if (sent_ < bytes_->size()) {
      Write();
    } else if (!std::exchange(ended_, true)) {
      shutdown(socket_.get(), SHUT_WR);
    } else if (Hung()) {
      Drain();
      return loop_->Stop();
    }
    // Far more turns than any input needs: a part that does not notice the end fails here.
    FAULTLINE_CHECK(++turns_ < 1'000'000);
    Go();
  }

  void Write() {
    size_t piece = bytes_->size() - sent_;
    if (!whole_) {
      state_ = state_ * 1664525 + 1013904223;
      const uint32_t size = state_ >> 16;
      // Single bytes now and then, else up to some pages.
      piece = std::min<size_t>(piece, (size & 3) == 0 ? 1 + (size >> 2) % 24 : 1 + size % 20000);
    }
    const ssize_t written =
        send(socket_.get(), bytes_->data() + sent_, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written > 0) sent_ += static_cast<size_t>(written);
    if (written < 0 && errno != EAGAIN) sent_ = bytes_->size();  // it was shut out
  }

  void Drain() {
    std::array<std::byte, 65536> chunk;
    ssize_t got;
    while ((got = recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT)) > 0) {
      answers_.insert(answers_.end(), chunk.begin(), chunk.begin() + got);
    }
  }

  bool Hung() const {
    pollfd entry{.fd = socket_.get(), .events = 0, .revents = 0};
    return poll(&entry, 1, 0) > 0 && (entry.revents & POLLHUP) != 0;
  }

  Loop* const loop_;
  const FileDescriptor socket_;
  const Bytes* const bytes_;
  uint32_t state_;
  const bool whole_;
  size_t sent_ = 0;
  bool ended_ = false;
  uint32_t turns_ = 0;
  Bytes answers_;
};

// --- The parts, and what they make of it ---

// What a part gave out, as texts to be compared.
class Log {
 public:
  void Add(const std::string& text) { lines_.push_back(text); }
  void Add(PageRun run, std::span<const std::byte> bytes, std::optional<uint64_t> came = {}) {
    uint64_t digest = came.value_or(0);
    for (std::byte byte : bytes) digest = digest * 1099511628211u + static_cast<uint64_t>(byte);
    Add(std::to_string(run.region) + ":" + std::to_string(run.first) + "+" +
        std::to_string(run.count) + " " + std::to_string(bytes.size()) + " " +
        std::to_string(digest));
  }
  void AddEnd(const absl::Status& status) {
    FAULTLINE_CHECK(!status.ok() && !status.message().empty());
    const std::string text = MessageOf(status);
    FAULTLINE_CHECK(!absl::IsInvalidArgument(status) || text.find("field '") != std::string::npos ||
                    text.find("the peer ") != std::string::npos);
    Add(text);
  }
  friend bool operator==(const Log&, const Log&) = default;

 private:
  std::vector<std::string> lines_;
};

// A part and all that it calls; made before the loop runs, gone after it.
class Part {
 public:
  virtual ~Part() = default;
  virtual void Start() = 0;
  virtual void Check(const Bytes& /*sent*/, const Bytes& /*answers*/) {}
  Log log;
};

class ControlPart : public Part, public ControlChannel::Listener {
 public:
  ControlPart(Loop* loop, TcpConnection connection)
      : channel_(loop, std::move(connection), std::make_shared<std::atomic<uint64_t>>(0)) {}
  void Start() override { channel_.Start(this); }
  void OnMessage(Message message) override {
    Bytes bytes;
    EncodeMessage(message, &bytes);
    log.Add({}, bytes);
  }
  void OnChannelClosed(absl::Status reason) override { log.AddEnd(reason); }

 private:
  TcpControlChannel channel_;
};

class GreetingPart : public Part {
 public:
  GreetingPart(Loop* loop, TcpConnection connection)
      : greeting_(loop, std::move(connection), std::make_shared<std::atomic<uint64_t>>(0)) {}
  void Start() override {
    greeting_.Receive(60'000'000, [this](absl::StatusOr<Message> message) {
      if (message.ok()) {
        message_ = *std::move(message);
      } else {
        log.AddEnd(message.status());
      }
      TcpConnection rest = greeting_.Release();
      std::array<std::byte, 65536> chunk;
      ssize_t got;
      while ((got = recv(rest.fd.get(), chunk.data(), chunk.size(), MSG_DONTWAIT)) > 0) {
        rest_.insert(rest_.end(), chunk.begin(), chunk.begin() + got);
      }
    });
  }
  // It takes exactly the first message.
  void Check(const Bytes& sent, const Bytes&) override {
    if (!message_.has_value()) return;
    const auto decoded = DecodeMessage(sent);
    FAULTLINE_CHECK(decoded.ok() && decoded->bytes_used > 0 && decoded->message == *message_);
    FAULTLINE_CHECK(decoded->bytes_used + rest_.size() <= sent.size());
    FAULTLINE_CHECK(std::equal(rest_.begin(), rest_.end(),
                               sent.begin() + static_cast<ptrdiff_t>(decoded->bytes_used)));
  }

 private:
  TcpGreeting greeting_;
  std::optional<Message> message_;
  Bytes rest_;
};

class ReaderPart : public Part, public PageReader::Listener {
 public:
  ReaderPart(Loop* loop, TcpConnection connection, bool integrity)
      : integrity_(integrity),
        reader_(loop, std::move(connection), std::make_shared<std::atomic<uint64_t>>(0),
                TermsOf(integrity)) {}
  void Start() override { reader_.Start(this); }
  void OnPage(PageId page, std::span<const std::byte> bytes,
              std::optional<uint64_t> digest) override {
    FAULTLINE_CHECK(digest.has_value() == integrity_);
    FAULTLINE_CHECK(page.region < kLayout.size());
    const RegionLayout& shape = kLayout[page.region];
    FAULTLINE_CHECK(page.index < shape.page_count());
    FAULTLINE_CHECK(bytes.empty() || bytes.size() == shape.page_size_bytes);
    log.Add({page.region, page.index, 1}, bytes, digest);
  }
  void OnReaderFailed(absl::Status status) override { log.AddEnd(status); }

 private:
  const bool integrity_;
  TcpPageReader reader_;
};

class ReceiverPart : public Part, public PushReceiver::Listener {
 public:
  ReceiverPart(Loop* loop, TcpConnection connection, bool integrity, bool holds)
      : loop_(loop),
        integrity_(integrity),
        holds_(holds),
        receiver_(loop, std::move(connection), std::make_shared<std::atomic<uint64_t>>(0),
                  TermsOf(integrity)) {}
  void Start() override { receiver_.Start(this); }
  bool OnRun(PageRun run, std::span<const std::byte> bytes,
             std::optional<uint64_t> digest) override {
    FAULTLINE_CHECK(digest.has_value() == integrity_);
    FAULTLINE_CHECK(!finished_ && run.region < kLayout.size());
    const RegionLayout& shape = kLayout[run.region];
    FAULTLINE_CHECK(run.count > 0 && run.end() <= shape.page_count());
    FAULTLINE_CHECK(bytes.empty() || bytes.size() == run.count * shape.page_size_bytes);
    // Every second offer is put off.
    if (holds_ && (held_ = !held_)) {
      loop_->Post([this] { receiver_.Resume(); });
      return false;
    }
    log.Add(run, bytes, digest);
    return true;
  }
  void OnRoundMark(PageFrameKind mark, uint32_t round) override {
    FAULTLINE_CHECK(!HasPages(mark) && mark != PageFrameKind::kFinished && !finished_);
    FAULTLINE_CHECK(round >= 1 && round <= kRoundMax);
    log.Add("mark");
  }
  void OnPushFinished() override {
    FAULTLINE_CHECK(!std::exchange(finished_, true));
    log.Add("finished");
  }
  void OnReceiverFailed(absl::Status status) override { log.AddEnd(status); }

 private:
  Loop* const loop_;
  const bool integrity_;
  const bool holds_;
  bool held_ = false;
  bool finished_ = false;
  TcpPushReceiver receiver_;
};

class ExportedMemory : public SourceMemory {
 public:
  const MemoryLayout& layout() const override { return kLayout; }
  absl::StatusOr<AllocationMap> ReadAllocationMap() override {
    return AllocationMap(kLayout.size());
  }
  absl::Status Read(RegionIndex region, uint64_t offset_bytes,
                    std::span<std::byte> out) const override {
    FAULTLINE_CHECK(region < kLayout.size());
    FAULTLINE_CHECK(offset_bytes + out.size() <= kLayout[region].size_bytes);
    const uint64_t page = offset_bytes / kLayout[region].page_size_bytes;
    std::ranges::fill(out, Byte({region, page}));
    return absl::OkStatus();
  }
  // Every fourth page is zero.
  static std::byte Byte(PageId page) { return page.index % 4 == 3 ? std::byte{0} : ByteOf(page); }
};

class ExporterPart : public Part, public PageExporter::Listener {
 public:
  ExporterPart(Loop* loop, TcpConnection connection, bool integrity)
      : integrity_(integrity),
        exporter_(loop, std::move(connection), std::make_shared<std::atomic<uint64_t>>(0),
                  TermsOf(integrity)) {}
  void Start() override { exporter_.Start(&memory_, this); }
  void OnDemand(PageId page) override { demands_.push_back(page); }
  void OnExporterFailed(absl::Status status) override {
    FAULTLINE_CHECK(!status.ok() && !status.message().empty());
  }
  // The answers are those to the first requests, whole or, where the lane broke, cut off.
  void Check(const Bytes& sent, const Bytes& answers) override {
    Bytes expected;
    std::vector<PageId> pages;
    for (size_t at = 0; at + kPageRequestBytes <= sent.size(); at += kPageRequestBytes) {
      const auto request = DecodePageRequest(std::span(sent).subspan(at).first<kPageRequestBytes>(),
                                             kLayout, integrity_);
      if (!request.ok()) break;
      pages.push_back(request->page);
      const std::byte byte = ExportedMemory::Byte(request->page);
      if (expected.size() >= answers.size()) continue;
      const PageRun run{request->page.region, request->page.index, 1};
      const bool zero = byte == std::byte{0};
      const Bytes data(zero ? 0 : kLayout[run.region].page_size_bytes, byte);
      std::array<std::byte, kPageFrameBytes> header;
      EncodePageFrame({zero ? PageFrameKind::kZero : PageFrameKind::kData, run}, header);
      expected.insert(expected.end(), header.begin(), header.end());
      expected.insert(expected.end(), data.begin(), data.end());
      if (integrity_) AddDigest(DigestOfRun(run, data), &expected);
    }
    FAULTLINE_CHECK(answers.size() <= expected.size());
    FAULTLINE_CHECK(std::equal(answers.begin(), answers.end(), expected.begin()));
    FAULTLINE_CHECK(demands_.size() <= pages.size());
    FAULTLINE_CHECK(std::equal(demands_.begin(), demands_.end(), pages.begin()));
  }

 private:
  const bool integrity_;
  ExportedMemory memory_;
  TcpPageExporter exporter_;
  std::vector<PageId> demands_;
};

enum class Kind : uint8_t { kControl, kGreeting, kReader, kReceiver, kHoldingReceiver, kExporter };
constexpr uint8_t kKinds = 6;

std::unique_ptr<Part> MakePart(Kind kind, bool integrity, Loop* loop, TcpConnection connection) {
  switch (kind) {
    case Kind::kControl:
      return std::make_unique<ControlPart>(loop, std::move(connection));
    case Kind::kGreeting:
      return std::make_unique<GreetingPart>(loop, std::move(connection));
    case Kind::kReader:
      return std::make_unique<ReaderPart>(loop, std::move(connection), integrity);
    case Kind::kReceiver:
      return std::make_unique<ReceiverPart>(loop, std::move(connection), integrity, false);
    case Kind::kHoldingReceiver:
      return std::make_unique<ReceiverPart>(loop, std::move(connection), integrity, true);
    case Kind::kExporter:
      return std::make_unique<ExporterPart>(loop, std::move(connection), integrity);
  }
  FAULTLINE_CHECK(false);
}

Log RunOnce(Kind kind, bool integrity, const Bytes& bytes, uint8_t cut) {
  auto sockets = MakeSocketPair();
  FAULTLINE_CHECK(sockets.ok() && SetNonBlocking(sockets->first.get(), true).ok());
  Loop loop("lane");
  Peer peer(&loop, std::move(sockets->second), &bytes, cut);
  std::unique_ptr<Part> part =
      MakePart(kind, integrity, &loop, {std::move(sockets->first), nullptr});
  loop.Post([&] { part->Start(); });
  peer.Go();
  loop.Run();
  part->Check(bytes, peer.answers());
  return std::move(part->log);
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  FuzzInput input(data, size);
  const uint8_t choice = input.U8();
  const Kind kind = static_cast<Kind>(choice % kKinds);
  const bool integrity = choice / kKinds % 2 == 1;
  const uint8_t cut = input.U8();
  Bytes bytes;
  if (kind == Kind::kReader || kind == Kind::kReceiver || kind == Kind::kHoldingReceiver) {
    bytes = Script(&input, integrity).Frames();
  } else {
    const auto rest = std::as_bytes(input.Rest());
    bytes.assign(rest.begin(), rest.end());
  }
  const Log cut_up = RunOnce(kind, integrity, bytes, cut);
  FAULTLINE_CHECK(cut == 0 || cut_up == RunOnce(kind, integrity, bytes, 0));
  return 0;
}
