#include "transport/rdma/rdma_work_queue.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace faultline {
namespace {

constexpr int kCompletionsPerPoll = 16;
constexpr unsigned kEventsPerAcknowledgement = 64;

}  // namespace

void RdmaWorkQueue::Attach(RdmaConnection* connection, uint32_t under_way_max) {
  FAULTLINE_CHECK(loop_->IsOwnThread() && connection_ == nullptr);
  connection_ = connection;
  under_way_max_ = under_way_max;
  armed_ = false;
  awaited_soon_ = false;
  attachment_ = std::make_shared<const bool>(true);
  watch_ = loop_->WatchReadable(connection->channel()->fd, [this] { OnChannelReadable(); });
}

void RdmaWorkQueue::Detach() {
  if (connection_ == nullptr) return;
  attachment_.reset();
  watch_.reset();
  if (events_unacknowledged_ > 0) ibv_ack_cq_events(connection_->queue(), events_unacknowledged_);
  events_unacknowledged_ = 0;
  std::exchange(connection_, nullptr)->Break();
}

void RdmaWorkQueue::Count() {
  if (under_way_++ == 0) first_posted_ns_ = loop_->NowNanos();
}

absl::Status RdmaWorkQueue::PostRead(uint32_t slot, size_t bytes, const RemotePlace& place) {
  FAULTLINE_CHECK(has_room());
  RdmaSlots& slots = connection_->slots();
  ibv_sge part{reinterpret_cast<uint64_t>(slots.bytes(slot).data()), static_cast<uint32_t>(bytes),
               slots.local_key()};
  ibv_send_wr work{};
  work.wr_id = slot;
  work.sg_list = &part;
  work.num_sge = 1;
  work.opcode = IBV_WR_RDMA_READ;
  work.send_flags = IBV_SEND_SIGNALED;
  work.wr.rdma.remote_addr = place.address;
  work.wr.rdma.rkey = place.key;
  ibv_send_wr* bad = nullptr;
  if (int error = ibv_post_send(connection_->queue_pair(), &work, &bad); error != 0) {
    return ErrnoStatus(error, "post an RDMA READ");
  }
  Count();
  return absl::OkStatus();
}

absl::Status RdmaWorkQueue::PostWrite(std::span<const std::byte> bytes, uint32_t local_key,
                                      const WriteGrant& grant) {
  FAULTLINE_CHECK(has_room() && bytes.size() <= grant.bytes);
  ibv_sge part{reinterpret_cast<uint64_t>(bytes.data()), static_cast<uint32_t>(bytes.size()),
               local_key};
  ibv_send_wr behind{};
  behind.wr_id = grant.slot;
  behind.opcode = IBV_WR_SEND;
  behind.send_flags = IBV_SEND_SIGNALED;  // for both: they complete in their order
  ibv_send_wr write{};
  write.wr_id = grant.slot;
  write.next = &behind;
  write.sg_list = &part;
  write.num_sge = 1;
  write.opcode = IBV_WR_RDMA_WRITE;
  write.wr.rdma.remote_addr = grant.address;
  write.wr.rdma.rkey = grant.key;
  ibv_send_wr* bad = nullptr;
  if (int error = ibv_post_send(connection_->queue_pair(), &write, &bad); error != 0) {
    return ErrnoStatus(error, "post an RDMA WRITE");
  }
  Count();
  return absl::OkStatus();
}

absl::Status RdmaWorkQueue::PostReceive() {
  FAULTLINE_CHECK(has_room());
  ibv_recv_wr work{};
  ibv_recv_wr* bad = nullptr;
  if (int error = ibv_post_recv(connection_->queue_pair(), &work, &bad); error != 0) {
    return ErrnoStatus(error, "post a receive for RDMA");
  }
  Count();
  return absl::OkStatus();
}

// A timer would wait for the loop's next whole millisecond, and a post for a wake-up.
void RdmaWorkQueue::AwaitSoon() {
  if (under_way_ == 0 || std::exchange(awaited_soon_, true)) return;
  loop_->PostAfterThis([this, attachment = std::weak_ptr(attachment_)] {
    if (attachment.expired()) return;  // detached or destroyed meanwhile
    awaited_soon_ = false;
    AwaitCompletions();
  });
}

void RdmaWorkQueue::AwaitCompletions() {
  if (typical_ns_ <= poll_ns_max_) {
    const int64_t until_ns = loop_->NowNanos() + 2 * typical_ns_;
    while (attached() && under_way_ > 0 && loop_->NowNanos() < until_ns) {
      const uint32_t before = under_way_;
      if (!Drain()) return;
      if (under_way_ != before) break;
    }
  }
  ArmIfNeeded();
}

void RdmaWorkQueue::OnChannelReadable() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  while (ibv_get_cq_event(connection_->channel(), &queue, &context) == 0) {
    ++events_unacknowledged_;
  }
  // A channel that is broken stays readable.
  if (errno != EAGAIN && errno != EINTR) {
    return Fail(ErrnoStatus(errno, "read the events of RDMA completions"));
  }
  if (events_unacknowledged_ >= kEventsPerAcknowledgement) {
    ibv_ack_cq_events(connection_->queue(), std::exchange(events_unacknowledged_, 0));
  }
  armed_ = false;
  if (Drain()) ArmIfNeeded();
}

void RdmaWorkQueue::ArmIfNeeded() {
  if (!attached() || under_way_ == 0 || armed_) return;
  if (int error = ibv_req_notify_cq(connection_->queue(), 0); error != 0) {
    return Fail(ErrnoStatus(error, "ask for RDMA completions"));
  }
  armed_ = true;
  Drain();
}

bool RdmaWorkQueue::Drain() {
  std::array<ibv_wc, kCompletionsPerPoll> done;
  while (true) {
    const int count = ibv_poll_cq(connection_->queue(), kCompletionsPerPoll, done.data());
    if (count < 0) {
      Fail(absl::InternalError("the RDMA completion queue cannot be read"));
      return false;
    }
    for (int i = 0; i < count; ++i) {
      const ibv_wc& one = done[static_cast<size_t>(i)];
      if (one.status != IBV_WC_SUCCESS) {
        Fail(absl::UnavailableError(fmt::format("{} failed: {} (vendor code {})", what_,
                                                ibv_wc_status_str(one.status), one.vendor_err)));
        return false;
      }
      if (--under_way_ == 0) {
        typical_ns_ += (loop_->NowNanos() - first_posted_ns_ - typical_ns_) / 8;
      }
      listener_->OnWorkDone(static_cast<uint32_t>(one.wr_id));
      if (!attached()) return false;
    }
    if (count < kCompletionsPerPoll) return true;
  }
}

void RdmaWorkQueue::Fail(absl::Status status) {
  Detach();
  listener_->OnWorkFailed(std::move(status));
}

}  // namespace faultline
