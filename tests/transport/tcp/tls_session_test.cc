// Bytes through records, over a connection that takes and gives them in crumbs.
#include "transport/tcp/tls_session.h"

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "base/file_descriptor.h"
#include "transport/tcp/tcp_world.h"
#include "transport/tcp/test_certificates.h"

namespace faultline {
namespace {

using Sockets = std::pair<FileDescriptor, FileDescriptor>;

constexpr int kSocketBytes = 4096;

Sockets UnixSockets() {
  Sockets sockets = MakeSocketPair().value();
  for (int fd : {sockets.first.get(), sockets.second.get()}) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
  }
  return sockets;
}

// The kernel makes records on TCP only, if at all.
Sockets TcpSockets() {
  FileDescriptor listener = ListenTcp({"127.0.0.1", 0}).value();
  for (int option : {SO_SNDBUF, SO_RCVBUF}) {  // which those that are accepted have, too
    setsockopt(listener.get(), SOL_SOCKET, option, &kSocketBytes, sizeof(kSocketBytes));
  }
  EXPECT_TRUE(SetNonBlocking(listener.get(), false).ok());
  const TcpUri uri = ParseTcpUri("tcp://" + LocalAddressOf(listener.get()).text()).value();
  FileDescriptor calling = contract::ConnectTo(uri.port);
  setsockopt(calling.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
  return {std::move(calling), FileDescriptor(accept(listener.get(), nullptr, nullptr))};
}

struct Way {
  TlsPair (*secrets)();
  Sockets (*sockets)();
};

// Two sessions over a pair of sockets that hold little, shaken.
class TlsSessionTest : public ::testing::TestWithParam<Way> {
 protected:
  TlsSessionTest() : pair_(GetParam().secrets()) {
    std::tie(source_fd_, destination_fd_) = GetParam().sockets();
    for (int fd : {source_fd_.get(), destination_fd_.get()}) {
      EXPECT_TRUE(SetNonBlocking(fd, true).ok());
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

  // Until all that the source has sent is at the destination.
  void AwaitArrival() {
    if (GetParam().sockets != TcpSockets) return;
    int left = 1;
    for (int i = 0; i < 5000 && left > 0; ++i) {
      ASSERT_EQ(ioctl(source_fd_.get(), SIOCOUTQ, &left), 0);
      if (left > 0) usleep(1000);
    }
    ASSERT_EQ(left, 0);
  }

  TlsPair pair_;
  FileDescriptor source_fd_;
  FileDescriptor destination_fd_;
  std::unique_ptr<TlsSession> source_;
  std::unique_ptr<TlsSession> destination_;
  std::mt19937_64 random_{11};
};

TlsPair ShortKeys() { return CertificatePair(/*records_per_key=*/2); }
TlsPair LongKeys() { return CertificatePair(); }
INSTANTIATE_TEST_SUITE_P(Unix, TlsSessionTest,
                         ::testing::Values(Way{LongKeys, UnixSockets}, Way{ShortKeys, UnixSockets},
                                           Way{PskPair, UnixSockets}));
INSTANTIATE_TEST_SUITE_P(Tcp, TlsSessionTest,
                         ::testing::Values(Way{LongKeys, TcpSockets}, Way{ShortKeys, TcpSockets},
                                           Way{PskPair, TcpSockets}));

TEST_P(TlsSessionTest, TheKernelMakesTheRecordsWhereItCan) {
  const bool expected = GetParam().sockets == TcpSockets && contract::KernelHasTls();
  EXPECT_EQ(source_->kernel_sends(), expected);
  EXPECT_EQ(destination_->kernel_sends(), expected);
}

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
  AwaitArrival();
  std::byte room[8];
  iovec into{room, sizeof(room)};
  Transfer first = destination_->Receive({&into, 1});
  EXPECT_EQ(first.bytes, 1u);
  EXPECT_TRUE(first.status.ok());
  EXPECT_TRUE(destination_->may_hold_bytes()) << "the end is still to be told";
  EXPECT_TRUE(absl::IsUnavailable(destination_->Receive({&into, 1}).status));
}

TEST_P(TlsSessionTest, AForgedByteEndsTheConnection) {
  if (source_->kernel_sends()) GTEST_SKIP() << "what is sent by hand would be in a record, too";
  std::byte bytes[100] = {};
  iovec part{bytes, sizeof(bytes)};
  ASSERT_EQ(source_->Send({&part, 1}).bytes, sizeof(bytes));
  AwaitArrival();
  char record[200];
  const ssize_t length = recv(destination_fd_.get(), record, sizeof(record), 0);
  ASSERT_GT(length, 100);
  record[length / 2] ^= 1;
  ASSERT_EQ(send(source_fd_.get(), record, static_cast<size_t>(length), 0), length);
  AwaitArrival();
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
  // TCP takes what it is given until the other host has said that nobody is there.
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) status = source_->Send({&part, 1}).status;
  EXPECT_FALSE(status.ok());
  sigset_t pending;
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&pending, SIGPIPE));
  sigaction(SIGPIPE, &before, nullptr);
}

}  // namespace
}  // namespace faultline
