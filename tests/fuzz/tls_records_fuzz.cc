// Bytes from the network in place of TLS records: before, in and after the handshake of either
// side. Nobody without the key gets through it, no forged byte is given out, and each failure is a
// sentence.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/file_descriptor.h"
#include "fuzz/fuzz_input.h"
#include "transport/tcp/tls_context.h"

namespace faultline {
namespace {

std::shared_ptr<const TlsContext> MakeContext(TlsRole role) {
  std::string path = "/tmp/faultline_fuzz_XXXXXX";
  const FileDescriptor file(mkstemp(path.data()));
  constexpr std::string_view kKey =
      "vms:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
  FAULTLINE_CHECK(write(file.get(), kKey.data(), kKey.size()) == static_cast<ssize_t>(kKey.size()));
  auto context = TlsContext::Make(
      {.role = role, .secrets = {.directory = "", .psk_path = path}, .peer_host = "h"});
  unlink(path.c_str());
  FAULTLINE_CHECK(context.ok());
  return *context;
}

const TlsContext& ContextOf(TlsRole role) {
  static const std::shared_ptr<const TlsContext> source = MakeContext(TlsRole::kSource);
  static const std::shared_ptr<const TlsContext> destination = MakeContext(TlsRole::kDestination);
  return role == TlsRole::kSource ? *source : *destination;
}

// A session, and the other end of its socket.
struct End {
  FileDescriptor own;
  FileDescriptor wire;
  std::unique_ptr<TlsSession> session;

  explicit End(TlsRole role) {
    auto sockets = MakeSocketPair();
    FAULTLINE_CHECK(sockets.ok());
    own = std::move(sockets->first);
    wire = std::move(sockets->second);
    FAULTLINE_CHECK(SetNonBlocking(own.get(), true).ok());
    session = ContextOf(role).NewSession(own.get(), "PEER");
  }
  void Put(std::span<const uint8_t> bytes) {
    FAULTLINE_CHECK(send(wire.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
                    static_cast<ssize_t>(bytes.size()));
  }
  // What the session has sent.
  std::span<const uint8_t> Take() {
    static std::array<uint8_t, 65536> chunk;
    const ssize_t got = recv(wire.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    return {chunk.data(), got > 0 ? static_cast<size_t>(got) : 0};
  }
};

void CheckFailure(const absl::Status& status) {
  FAULTLINE_CHECK(!status.ok());
  FAULTLINE_CHECK(MessageOf(status).find("PEER") != std::string::npos);
}

// False: it has failed.
bool Shake(TlsSession* session) {
  const absl::StatusOr<TlsNeed> need = session->Handshake();
  if (!need.ok()) CheckFailure(need.status());
  return need.ok();
}

// Gives `end` what a true peer says first; of a destination's words the last ones are cut off, or
// the source would be through.
void PutFirstFlight(End* end, TlsRole role, uint8_t cut) {
  constexpr size_t kCutBytesMin = 16;
  if (role == TlsRole::kDestination) {
    End source(TlsRole::kSource);
    FAULTLINE_CHECK(Shake(source.session.get()));
    return end->Put(source.Take());
  }
  End destination(TlsRole::kDestination);
  FAULTLINE_CHECK(Shake(end->session.get()));
  destination.Put(end->Take());
  FAULTLINE_CHECK(Shake(destination.session.get()));
  const std::span<const uint8_t> flight = destination.Take();
  end->Put(flight.first(flight.size() - std::min(flight.size(), kCutBytesMin + cut)));
}

// A stranger's bytes, in pieces; `behind_flight`: after what a true peer says first.
void CheckHandshake(TlsRole role, bool behind_flight, FuzzInput* input) {
  End end(role);
  if (behind_flight) PutFirstFlight(&end, role, input->U8());
  bool goes_on = Shake(end.session.get());
  while (goes_on && !input->empty()) {
    const std::span<const uint8_t> piece = input->Bytes(size_t{1} + input->U8());
    if (piece.empty()) break;
    end.Put(piece);
    goes_on = Shake(end.session.get());
    FAULTLINE_CHECK(!end.session->established());
    end.Take();
  }
  end.wire.Reset();
  if (goes_on) goes_on = Shake(end.session.get());
  FAULTLINE_CHECK(!end.session->established());
}

// Somebody in the path writes into a connection that stands.
void CheckRecords(TlsRole role, FuzzInput* input) {
  End end(role);
  End other(role == TlsRole::kSource ? TlsRole::kDestination : TlsRole::kSource);
  for (int turn = 0; turn < 4; ++turn) {
    FAULTLINE_CHECK(Shake(end.session.get()) && Shake(other.session.get()));
    end.Put(other.Take());
    other.Put(end.Take());
  }
  FAULTLINE_CHECK(end.session->established() && other.session->established());
  // A true record before it is given out.
  std::byte byte{42};
  iovec part{&byte, 1};
  if (input->U8() % 2 == 0) {
    FAULTLINE_CHECK(other.session->Send({&part, 1}).bytes == 1);
    end.Put(other.Take());
    byte = {};
    FAULTLINE_CHECK(end.session->Receive({&part, 1}).bytes == 1 && byte == std::byte{42});
  }
  end.Put(input->Rest());
  std::array<std::byte, 64> room;
  iovec into{room.data(), room.size()};
  for (int turn = 0; turn < 3; ++turn) {
    const Transfer transfer = end.session->Receive({&into, 1});
    FAULTLINE_CHECK(transfer.bytes == 0);
    if (!transfer.status.ok()) return CheckFailure(transfer.status);
  }
  end.wire.Reset();
  CheckFailure(end.session->Receive({&into, 1}).status);
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace faultline;
  FuzzInput input(data, size);
  const uint8_t word = input.U8();
  const TlsRole role = word % 2 == 0 ? TlsRole::kDestination : TlsRole::kSource;
  switch (word / 2 % 4) {
    case 0:
      CheckRecords(role, &input);
      break;
    case 1:
      CheckHandshake(role, true, &input);
      break;
    default:
      CheckHandshake(role, false, &input);
  }
  return 0;
}
