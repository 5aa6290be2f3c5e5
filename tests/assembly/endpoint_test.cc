// Which connections are in TLS, and which choices are refused.
#include "assembly/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "assembly/tls_examination.h"
#include "transport/tcp/test_certificates.h"

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kHere[] = "tcp://127.0.0.1:4444";
constexpr char kThere[] = "tcp://192.0.2.7:4444";

absl::StatusOr<Endpoint> Secure(const std::string& uri, bool insecure, const TlsChoice& choice,
                                TlsRole role = TlsRole::kSource) {
  return SecureEndpoint(uri, insecure, choice, role);
}

TEST(EndpointTest, PlainOnLoopbackAndWhereItIsAllowed) {
  for (const auto& [uri, insecure] : {std::pair{kHere, false}, {kHere, true}, {kThere, true}}) {
    auto endpoint = Secure(uri, insecure, {});
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    EXPECT_EQ(endpoint->tls, nullptr);
    EXPECT_EQ(endpoint->uri.text(), uri);
  }
}

TEST(EndpointTest, SecretsMeanTlsEverywhere) {
  const std::string directory = SharedCertificates().path();
  for (const char* uri : {kHere, kThere}) {
    auto with_directory = Secure(uri, false, {.directory = directory});
    ASSERT_TRUE(with_directory.ok()) << with_directory.status();
    ASSERT_NE(with_directory->tls, nullptr);
    EXPECT_EQ(with_directory->tls->options().peer_host, with_directory->uri.host);
    auto with_key = Secure(uri, false, {.psk_path = SharedCertificates().File("keys.psk")},
                           TlsRole::kDestination);
    ASSERT_TRUE(with_key.ok()) << with_key.status();
    EXPECT_TRUE(with_key->tls->uses_psk());
    EXPECT_EQ(with_key->tls->options().role, TlsRole::kDestination);
  }
  auto named = Secure(kThere, false, {.directory = directory, .hostname = "vm-host"});
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->tls->options().peer_host, "vm-host");
}

TEST(EndpointTest, ChoicesThatMakeNoSense) {
  struct Case {
    const char* uri;
    bool insecure;
    TlsChoice choice;
    const char* word;
  };
  const std::vector<Case> cases = {
      {"rdma://192.0.2.7", false, {}, "port"},
      {"tcp://192.0.2.7", false, {}, "port"},
      {kThere, false, {.directory = "d", .psk_path = "p"}, "exclude each other"},
      {kThere, true, {.directory = "d"}, "--insecure excludes"},
      {kThere, true, {.psk_path = "p"}, "--insecure excludes"},
      {kThere, true, {.hostname = "h"}, "--tls-hostname"},
      {kThere, false, {.psk_path = "p", .hostname = "h"}, "--tls-hostname"},
      {kHere, false, {.hostname = "h"}, "--tls-dir"},
  };
  for (const Case& bad : cases) {
    auto endpoint = Secure(bad.uri, bad.insecure, bad.choice);
    EXPECT_TRUE(absl::IsInvalidArgument(endpoint.status())) << endpoint.status();
    EXPECT_THAT(MessageOf(endpoint.status()), HasSubstr(bad.word));
  }
}

TEST(EndpointTest, RdmaMayHaveItsOwnAddressAndItsTuning) {
  const auto endpoint =
      SecureEndpoint("rdma://192.0.2.7:5", /*insecure=*/true, {}, TlsRole::kSource,
                     {.control = "tcp://198.51.100.7:6", .tuning = "device=mlx5_0,fallback=off"});
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_TRUE(endpoint->rdma);
  EXPECT_EQ(endpoint->uri, (TcpUri{"198.51.100.7", 6}));
  EXPECT_EQ(endpoint->rdma_uri, (TcpUri{"192.0.2.7", 5}));
  EXPECT_EQ(endpoint->tuning.device, "mlx5_0");
  EXPECT_FALSE(endpoint->tuning.fall_back);
}

TEST(EndpointTest, RdmaMayHaveSeveralRails) {
  const auto endpoint =
      SecureEndpoint("rdma://192.0.2.7:5,rdma://198.51.100.7,rdma://[2001:db8::7]:6",
                     /*insecure=*/true, {}, TlsRole::kSource);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(endpoint->uri, (TcpUri{"192.0.2.7", 5}));
  EXPECT_THAT(endpoint->rdma_rails,
              ElementsAre(TcpUri{"198.51.100.7", 0}, TcpUri{"2001:db8::7", 6}));
  const auto is_plain = [](const char* uri) {
    const auto here = SecureEndpoint(uri, /*insecure=*/false, {}, TlsRole::kSource);
    return here.ok() && here->tls == nullptr;
  };
  EXPECT_TRUE(is_plain("rdma://127.0.0.1:5,rdma://127.0.0.2"));
  EXPECT_FALSE(is_plain("rdma://127.0.0.1:5,rdma://192.0.2.7")) << "pages leave this host";
}

TEST(EndpointTest, ConnectionsOnLoopbackBesidePagesThatLeaveTheHostAreNotPlainByThemselves) {
  const RdmaChoice rdma{.control = "tcp://127.0.0.1:6", .tuning = {}};
  const auto is_plain = [&](const char* uri, bool insecure) {
    const auto endpoint = SecureEndpoint(uri, insecure, {}, TlsRole::kSource, rdma);
    return endpoint.ok() && endpoint->tls == nullptr;
  };
  EXPECT_FALSE(is_plain("rdma://192.0.2.7:5", false));
  EXPECT_TRUE(is_plain("rdma://192.0.2.7:5", true));
  EXPECT_TRUE(is_plain("rdma://127.0.0.1:5", false));
}

TEST(EndpointTest, RdmasChoicesThatMakeNoSense) {
  const std::vector<std::tuple<const char*, RdmaChoice, const char*>> cases = {
      {"tcp://192.0.2.7:5", {.control = "tcp://192.0.2.7:6"}, "rdma://"},
      {"tcp://192.0.2.7:5", {.tuning = "mtu=1024"}, "rdma://"},
      {"rdma://192.0.2.7:5", {.control = "rdma://192.0.2.7:6"}, "--control"},
      {"rdma://192.0.2.7:5", {.control = "tcp://192.0.2.7:0"}, "port"},
      {"rdma://192.0.2.7:5", {.tuning = "mtu=1000"}, "--rdma: 'mtu=1000'"},
      {"rdma://192.0.2.7:5,rdma://192.0.2.8", {.tuning = "device=mlx5_0"}, "for one rail"},
      {"rdma://192.0.2.7:5,rdma://192.0.2.7:5", {}, "twice"},
  };
  for (const auto& [uri, rdma, word] : cases) {
    const auto endpoint = SecureEndpoint(uri, true, {}, TlsRole::kSource, rdma);
    EXPECT_TRUE(absl::IsInvalidArgument(endpoint.status())) << endpoint.status();
    EXPECT_THAT(MessageOf(endpoint.status()), HasSubstr(word));
  }
}

TEST(EndpointTest, BeyondLoopbackTheHostsCertificatesAreLookedFor) {
  if (FindCertificates().ok()) GTEST_SKIP() << "this host has certificates of its own";
  const absl::Status status = Secure(kThere, false, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  for (const char* word :
       {"/etc/pki/faultline", "/etc/pki/qemu", "--tls-dir", "--tls-psk", "--insecure"}) {
    EXPECT_THAT(MessageOf(status), HasSubstr(word));
  }
}

TEST(EndpointTest, BadSecretsAreNoBadUsage) {
  const absl::Status status = Secure(kThere, false, {.directory = "/no/such"}).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST(TlsExaminationTest, EachSideHasItsOwnCertificate) {
  TestFolder folder;
  TestAuthority authority("authority");
  authority.WriteOwn(folder);
  authority.Write(folder, "client");
  TlsFacts facts = ExamineTls(folder.path());
  EXPECT_EQ(facts.directory.value(), folder.path());
  EXPECT_TRUE(facts.as_source.ok()) << facts.as_source.status();
  EXPECT_TRUE(absl::IsNotFound(facts.as_destination.status())) << facts.as_destination.status();
  authority.Write(folder, "server", {.until_days = -1});
  EXPECT_THAT(MessageOf(ExamineTls(folder.path()).as_destination.status()), HasSubstr("expired"));
}

}  // namespace
}  // namespace faultline
