// Channels of RDMA events that break: a descriptor that stays readable must not keep a loop busy.
// Runs where rdma_contract_test does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>

#include "transport/rdma/broken_channels.h"
#include "transport/rdma/pin_access.h"
#include "transport/rdma/rdma_domain.h"
#include "transport/rdma/rdma_events.h"
#include "transport/rdma/rdma_work_queue.h"
#include "transport/rdma/rdma_world.h"

namespace faultline::contract {
namespace {

class RdmaChannelsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    events_ = RdmaEvents::Make(&events_poller_, [this](const absl::Status& status) {
                troubles_.push_back(status);
              }).value();
    id_ = events_->MakeId(nullptr).value();
  }
  void BindAndMakeDomain() {
    SocketAddress address = ResolveTcp({RdmaHost(), 0}, /*numeric_only=*/true).value().front();
    ASSERT_EQ(rdma_bind_addr(id_.get(), reinterpret_cast<sockaddr*>(&address.storage)), 0);
    domain_ =
        RdmaDomain::MakeBeside(*id_, events_.get(), &domain_poller_,
                               [this](const absl::Status& status) { troubles_.push_back(status); })
            .value();
  }

  std::vector<absl::Status> troubles_;
  HeldPoller events_poller_;
  HeldPoller domain_poller_;
  std::unique_ptr<RdmaEvents> events_;
  RdmaId id_;
  std::shared_ptr<RdmaDomain> domain_;
};

TEST_F(RdmaChannelsTest, AConnectionManagerThatIsGoneIsSaidOnceAndNotWatched) {
  events_poller_.Run();
  EXPECT_TRUE(events_poller_.watched()) << "there was no event";
  EXPECT_TRUE(troubles_.empty());
  const BrokenDescriptor broken(id_->channel->fd);
  events_poller_.Run();
  EXPECT_FALSE(events_poller_.watched());
  ASSERT_EQ(troubles_.size(), 1u);
  EXPECT_NE(MessageOf(troubles_[0]).find("connection manager is gone"), std::string::npos)
      << troubles_[0];
}

TEST_F(RdmaChannelsTest, ADeviceThatIsGoneIsSaidOnceAndNotWatched) {
  BindAndMakeDomain();
  domain_poller_.Run();
  EXPECT_TRUE(domain_poller_.watched()) << "there was no event";
  EXPECT_FALSE(domain_->is_dead());
  EXPECT_TRUE(troubles_.empty());
  const BrokenDescriptor broken(domain_->context()->async_fd);
  domain_poller_.Run();
  EXPECT_FALSE(domain_poller_.watched());
  ASSERT_EQ(troubles_.size(), 1u);
  EXPECT_NE(MessageOf(troubles_[0]).find("is gone"), std::string::npos) << troubles_[0];
  EXPECT_TRUE(domain_->is_dead());
}

TEST_F(RdmaChannelsTest, CompletionsThatCannotBeHeardOfFailTheReadsOnce) {
  struct Notes : RdmaWorkQueue::Listener {
    void OnWorkDone(uint32_t) override {}
    void OnWorkFailed(absl::Status status) override { failures.push_back(std::move(status)); }
    std::vector<absl::Status> failures;
  } notes;
  BindAndMakeDomain();
  auto connection = RdmaConnection::Make(std::move(id_), domain_, {.reads_max = 1}, {}).value();
  const BrokenDescriptor broken(connection->channel()->fd);
  Loop loop("test");
  RdmaWorkQueue reads(&loop, "a READ", /*poll_ns_max=*/0, &notes);
  reads.Attach(connection.get(), 1);
  const auto stop = loop.RunAfter(100'000, [&] { loop.Stop(); });
  loop.Run();
  ASSERT_EQ(notes.failures.size(), 1u);
  EXPECT_FALSE(reads.attached());
}

// On every kernel; since 6.2 it takes the right to write.
TEST_F(RdmaChannelsTest, PinningMapsWhatIsPinnedAndNothingAround) {
  BindAndMakeDomain();
  const FileDescriptor page_tables(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const absl::StatusOr<int> access = ChoosePinAccess(domain_->pd(), page_tables.get());
  ASSERT_TRUE(access.ok()) << access.status();
  utsname kernel{};
  uname(&kernel);
  int major = 0;
  int minor = 0;
  ASSERT_EQ(std::sscanf(kernel.release, "%d.%d", &major, &minor), 2);
  const bool pins_by_reads = major > 6 || (major == 6 && minor >= 2);
  EXPECT_EQ(*access, IBV_ACCESS_REMOTE_READ | (pins_by_reads ? IBV_ACCESS_LOCAL_WRITE : 0));
}

}  // namespace
}  // namespace faultline::contract
