// Bytes through records, over a connection that takes and gives them in crumbs.
#include "transport/tcp/tls_session.h"

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>

#include "base/file_descriptor.h"
#include "transport/tcp/test_certificates.h"

namespace faultline {
namespace {

// Two sessions over a pair of sockets that hold little, shaken.
class TlsSessionTest : public ::testing::TestWithParam<TlsPair (*)()> {
 protected:
  TlsSessionTest() : pair_(GetParam()()) {
    auto sockets = MakeSocketPair();
    source_fd_ = std::move(sockets->first);
    destination_fd_ = std::move(sockets->second);
    const int bytes = 4096;
    for (int fd : {source_fd_.get(), destination_fd_.get()}) {
      EXPECT_TRUE(SetNonBlocking(fd, true).ok());
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    }
    source_ = pair_.source->NewSession(source_fd_.get(), "the destination");
    destination_ = pair_.destination->NewSession(destination_fd_.get(), "the source");
    for (int turn = 0; turn < 100 && !(source_->established() && destination_->established());
         ++turn) {
      for (TlsSession* session : {source_.get(), destination_.get()}) {
        absl::StatusOr<TlsNeed> need = session->Handshake();
        EXPECT_TRUE(need.ok()) << need.status();
      }
    }
  }

  void SetUp() override { ASSERT_TRUE(source_->established() && destination_->established()); }

  TlsPair pair_;
  FileDescriptor source_fd_;
  FileDescriptor destination_fd_;
  std::unique_ptr<TlsSession> source_;
  std::unique_ptr<TlsSession> destination_;
  std::mt19937_64 random_{11};
};

TlsPair ShortKeys() { return CertificatePair(/*records_per_key=*/2); }
TlsPair LongKeys() { return CertificatePair(); }
INSTANTIATE_TEST_SUITE_P(Tls, TlsSessionTest, ::testing::Values(LongKeys, ShortKeys, PskPair));

// Cuts [begin, end) of `bytes` into up to four parts, some of them empty.
std::vector<iovec> Cut(std::vector<std::byte>* bytes, size_t begin, size_t end,
                       std::mt19937_64* random) {
  std::vector<iovec> parts;
  while (parts.size() < 3 && begin < end) {
    const size_t length = (*random)() % (end - begin + 1);
    parts.push_back({bytes->data() + begin, length});
    begin += length;
  }
  parts.push_back({bytes->data() + begin, end - begin});
  return parts;
}

TEST_P(TlsSessionTest, EveryByteArrivesOnceAndInOrder) {
  std::vector<std::byte> sent(3 << 20);
  for (std::byte& byte : sent) byte = static_cast<std::byte>(random_());
  std::vector<std::byte> received(sent.size());
  size_t out = 0, in = 0, stops = 0;
  // What was offered once and not taken is offered again, and perhaps more with it.
  size_t offered_end = 0;
  while (in < sent.size()) {
    if (out < sent.size()) {
      offered_end = std::max(offered_end, std::min(sent.size(), out + 1 + random_() % 40'000));
      std::vector<iovec> parts = Cut(&sent, out, offered_end, &random_);
      Transfer transfer = source_->Send(parts);
      ASSERT_TRUE(transfer.status.ok()) << transfer.status;
      out += transfer.bytes;
      if (out < offered_end) ++stops;
    }
    std::vector<iovec> parts =
        Cut(&received, in, std::min(received.size(), in + 1 + random_() % 30'000), &random_);
    Transfer transfer = destination_->Receive(parts);
    ASSERT_TRUE(transfer.status.ok()) << transfer.status;
    in += transfer.bytes;
  }
  EXPECT_TRUE(sent == received);
  EXPECT_GT(stops, 20u) << "the socket was to be full now and then";
  EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST_P(TlsSessionTest, TheOrderlyEndComesAfterTheBytes) {
  std::byte byte{7};
  iovec part{&byte, 1};
  ASSERT_EQ(source_->Send({&part, 1}).bytes, 1u);
  source_->EndSending();
  std::byte room[8];
  iovec into{room, sizeof(room)};
  Transfer first = destination_->Receive({&into, 1});
  EXPECT_EQ(first.bytes, 1u);
  EXPECT_TRUE(first.status.ok());
  EXPECT_TRUE(destination_->may_hold_bytes()) << "the end is still to be told";
  EXPECT_TRUE(absl::IsUnavailable(destination_->Receive({&into, 1}).status));
}

TEST_P(TlsSessionTest, AForgedByteEndsTheConnection) {
  std::byte bytes[100] = {};
  iovec part{bytes, sizeof(bytes)};
  ASSERT_EQ(source_->Send({&part, 1}).bytes, sizeof(bytes));
  char record[200];
  const ssize_t length = recv(destination_fd_.get(), record, sizeof(record), 0);
  ASSERT_GT(length, 100);
  record[length / 2] ^= 1;
  ASSERT_EQ(send(source_fd_.get(), record, static_cast<size_t>(length), 0), length);
  std::byte room[200];
  iovec into{room, sizeof(room)};
  Transfer transfer = destination_->Receive({&into, 1});
  EXPECT_EQ(transfer.bytes, 0u);
  EXPECT_TRUE(absl::IsUnavailable(transfer.status)) << transfer.status;
  EXPECT_FALSE(destination_->Receive({&into, 1}).status.ok()) << "and stays at its end";
}

TEST_P(TlsSessionTest, APeerThatIsGoneRaisesNoSignal) {
  struct sigaction before {};
  struct sigaction deadly {};
  deadly.sa_handler = SIG_DFL;
  sigaction(SIGPIPE, &deadly, &before);
  destination_.reset();
  destination_fd_.Reset();
  std::byte byte{7};
  iovec part{&byte, 1};
  EXPECT_FALSE(source_->Send({&part, 1}).status.ok());
  sigset_t pending;
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&pending, SIGPIPE));
  sigaction(SIGPIPE, &before, nullptr);
}

}  // namespace
}  // namespace faultline
