#include "transport/rdma/rdma_tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "transport/rdma/rdma_place.h"

namespace faultline {
namespace {

using ::testing::HasSubstr;

TEST(RdmaTuningTest, WhatIsNamedIsTakenAndTheRestIsAsEver) {
  EXPECT_EQ(ParseRdmaTuning("").value(), RdmaTuning{});
  const RdmaTuning all =
      ParseRdmaTuning(
          "device=mlx5_0,port=2,gid=3,sl=4,tos=104,mtu=2048,retries=1,timeout=20,fallback=off,"
          "bulk=write")
          .value();
  EXPECT_EQ(all, (RdmaTuning{.device = "mlx5_0",
                             .port = 2,
                             .gid_index = 3,
                             .service_level = 4,
                             .type_of_service = 104,
                             .mtu_bytes = 2048,
                             .retries = 1,
                             .ack_timeout = 20,
                             .fall_back = false,
                             .bulk = RdmaBulk::kWrite}));
  EXPECT_EQ(ParseRdmaTuning("bulk=read").value(), RdmaTuning{});
}

TEST(RdmaTuningTest, WhatIsWrongIsNamed) {
  for (const char* bad :
       {"mtu=1000", "mtu=8192", "port=0,device=a", "device=", "device=../x", "sl=16", "tos=256",
        "retries=8", "timeout=0", "timeout=32", "fallback=maybe", "bulk=send", "bulk=", "mtu",
        "speed=1", "tos=1x", "=", "sl=-1", "mtu=1024,,sl=1"}) {
    const absl::Status status = ParseRdmaTuning(bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(MessageOf(status), HasSubstr("fallback=on or off, bulk=read or write")) << bad;
  }
  EXPECT_THAT(MessageOf(ParseRdmaTuning("gid=1").status()), HasSubstr("device"));
}

class RdmaGidTest : public ::testing::Test {
 protected:
  RdmaGidTest() {
    std::string path = std::filesystem::temp_directory_path() / "rdma-XXXXXX";
    sysfs_ = mkdtemp(path.data());
    const auto port = std::filesystem::path(sysfs_) / "class/infiniband/mlx5_0/ports/2";
    std::filesystem::create_directories(port / "gids");
    std::ofstream(port / "link_layer") << "Ethernet\n";
    std::ofstream(port / "gids/0") << "fe80:0000:0000:0000:0202:03ff:fe04:0506\n";
    std::ofstream(port / "gids/1") << "0000:0000:0000:0000:0000:ffff:0a09:0001\n";
    std::ofstream(port / "gids/2") << "2001:0db8:0000:0000:0000:0000:0000:0007\n";
    std::ofstream(port / "gids/3") << "0000:0000:0000:0000:0000:0000:0000:0000\n";
  }
  ~RdmaGidTest() override { std::filesystem::remove_all(sysfs_); }

  absl::StatusOr<std::optional<SocketAddress>> Address(uint8_t gid) {
    return AddressToUse({.device = "mlx5_0", .port = 2, .gid_index = gid}, std::nullopt, sysfs_);
  }

  std::string sysfs_;
};

TEST_F(RdmaGidTest, AGidSaysTheAddress) {
  EXPECT_EQ((*Address(1))->text(), "10.9.0.1:0");
  EXPECT_EQ((*Address(2))->text(), "[2001:db8::7]:0");
  EXPECT_FALSE(AddressToUse({.device = "mlx5_0"}, std::nullopt, sysfs_).value().has_value());
}

TEST_F(RdmaGidTest, OneThatIsNoAddressIsRefused) {
  for (const uint8_t gid : {0, 3, 9}) {
    EXPECT_TRUE(absl::IsNotFound(Address(gid).status())) << Address(gid).status();
  }
}

TEST_F(RdmaGidTest, OfInfiniBandItIsNoAddress) {
  std::ofstream(std::filesystem::path(sysfs_) / "class/infiniband/mlx5_0/ports/2/link_layer")
      << "InfiniBand\n";
  const auto otherwise = ResolveTcp({"10.9.0.1", 7}, /*numeric_only=*/true).value().front();
  const auto address =
      AddressToUse({.device = "mlx5_0", .port = 2, .gid_index = 0}, otherwise, sysfs_);
  EXPECT_EQ((*address)->text(), "10.9.0.1:7");
}

}  // namespace
}  // namespace faultline
