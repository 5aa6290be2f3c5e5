// Who hears that a lane's queue pair broke.
#include "transport/rdma/rdma_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fakes/manual_executor.h"

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RdmaLinkTest : public ::testing::Test {
 protected:
  void Listen() {
    link_->OnBroken([this](const absl::Status& status) { heard_.push_back(MessageOf(status)); });
  }
  void Break(const char* why) { RdmaLink::Break(link_, &lane_, absl::UnavailableError(why)); }

  ManualClock clock_;
  ManualExecutor lane_{&clock_, "lane"};
  std::shared_ptr<RdmaLink> link_ = std::make_shared<RdmaLink>();
  std::vector<std::string> heard_;
};

TEST_F(RdmaLinkTest, ABreakIsHeardOnce) {
  Listen();
  Break("first");
  Break("second");
  clock_.RunUntilIdle();
  EXPECT_THAT(heard_, ElementsAre("first"));
}

TEST_F(RdmaLinkTest, ABreakThatCameBeforeAnybodyListenedIsToldLater) {
  Break("first");
  Break("second");
  clock_.RunUntilIdle();
  Listen();
  EXPECT_THAT(heard_, IsEmpty()) << "it is posted";
  clock_.RunUntilIdle();
  EXPECT_THAT(heard_, ElementsAre("first"));
}

TEST_F(RdmaLinkTest, WhoEndsBeforeItIsToldHearsNothing) {
  Break("first");
  clock_.RunUntilIdle();
  Listen();
  link_->OnBroken(nullptr);
  clock_.RunUntilIdle();
  EXPECT_THAT(heard_, IsEmpty());
}

}  // namespace
}  // namespace faultline
