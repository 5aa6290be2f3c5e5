// Secrets on this host: what is taken, and the sentence for each thing that is wrong.
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <sys/stat.h>

#include "transport/tcp/private_file.h"
#include "transport/tcp/test_certificates.h"

namespace faultline {
namespace {

absl::Status Load(const TestFolder& folder, TlsRole role) {
  TlsOptions options;
  options.role = role;
  options.secrets.directory = folder.path();
  options.peer_host = "localhost";
  const absl::Status status = TlsContext::Make(options).status();
  EXPECT_EQ(ERR_peek_error(), 0u) << "left in the thread's error queue";
  return status;
}

absl::Status LoadPsk(const TestFolder& folder, const std::string& text, unsigned mode = 0600) {
  folder.Write("keys.psk", text, mode);
  TlsOptions options;
  options.secrets.psk_path = folder.File("keys.psk");
  return TlsContext::Make(options).status();
}

void ExpectSays(const absl::Status& status, std::initializer_list<const char*> words) {
  EXPECT_FALSE(status.ok());
  // InvalidArgument is for command lines; what files hold is another matter.
  EXPECT_FALSE(absl::IsInvalidArgument(status)) << status;
  for (const char* word : words) {
    EXPECT_NE(MessageOf(status).find(word), std::string::npos) << word << " is not in: " << status;
  }
}

class TlsCertificatesTest : public ::testing::Test {
 protected:
  TestFolder folder_;
  TestAuthority authority_{"the authority"};
};

TEST_F(TlsCertificatesTest, BothSidesLoadTheirOwn) {
  authority_.WriteAll(folder_);
  EXPECT_TRUE(Load(folder_, TlsRole::kSource).ok());
  EXPECT_TRUE(Load(folder_, TlsRole::kDestination).ok());
}

TEST_F(TlsCertificatesTest, SaysUntilWhenTheyAreValid) {
  authority_.WriteAll(folder_);
  TlsOptions options;
  options.secrets.directory = folder_.path();
  auto context = TlsContext::Make(options);
  ASSERT_TRUE(context.ok()) << context.status();
  EXPECT_EQ((*context)->valid_until().size(), std::string("2027-03-01").size());
  EXPECT_EQ((*context)->valid_until().substr(0, 2), "20");
}

TEST_F(TlsCertificatesTest, EachMissingFileIsNamed) {
  ExpectSays(Load(folder_, TlsRole::kSource), {"ca-cert.pem", "operators-guide.md"});
  authority_.WriteOwn(folder_);
  ExpectSays(Load(folder_, TlsRole::kSource), {"client-cert.pem"});
  ExpectSays(Load(folder_, TlsRole::kDestination), {"server-cert.pem"});
  EXPECT_TRUE(absl::IsNotFound(Load(folder_, TlsRole::kDestination)));
  authority_.Write(folder_, "client");
  remove(folder_.File("client-key.pem").c_str());
  ExpectSays(Load(folder_, TlsRole::kSource), {"client-key.pem"});
}

TEST_F(TlsCertificatesTest, WhatIsNoPemIsNamed) {
  for (const char* name : {"ca-cert.pem", "client-cert.pem", "client-key.pem"}) {
    authority_.WriteAll(folder_);
    folder_.Write(name, "-----BEGIN CERTIFICATE-----\nnothing of the kind\n");
    ExpectSays(Load(folder_, TlsRole::kSource), {name, "in PEM form"});
  }
}

TEST_F(TlsCertificatesTest, AKeyThatOthersMayReadIsRefused) {
  authority_.WriteAll(folder_);
  const std::string key = folder_.File("client-key.pem");
  for (unsigned mode : {0644u, 0604u, 0660u, 0602u}) {
    chmod(key.c_str(), mode);
    ExpectSays(Load(folder_, TlsRole::kSource), {key.c_str(), "other users", "chmod 0600"});
    EXPECT_TRUE(absl::IsPermissionDenied(Load(folder_, TlsRole::kSource)));
  }
  // libvirt's own set-up lets the group of QEMU read it.
  chmod(key.c_str(), 0640);
  EXPECT_TRUE(Load(folder_, TlsRole::kSource).ok());
}

TEST_F(TlsCertificatesTest, AKeyOfAnotherCertificateIsRefused) {
  authority_.WriteAll(folder_);
  rename(folder_.File("server-key.pem").c_str(), folder_.File("client-key.pem").c_str());
  ExpectSays(Load(folder_, TlsRole::kSource), {"client-key.pem", "is not the key of"});
}

TEST_F(TlsCertificatesTest, DatesAreCheckedAtHome) {
  authority_.WriteAll(folder_);
  authority_.Write(folder_, "client", {.from_days = -30, .until_days = -2});
  ExpectSays(Load(folder_, TlsRole::kSource), {"client-cert.pem", "expired on 20", "make a new"});
  authority_.Write(folder_, "server", {.from_days = 2, .until_days = 30});
  ExpectSays(Load(folder_, TlsRole::kDestination), {"server-cert.pem", "only from 20", "clock"});
  TestAuthority old("an old authority", -1);
  old.WriteAll(folder_);
  ExpectSays(Load(folder_, TlsRole::kSource), {"ca-cert.pem", "expired on 20"});
}

TEST_F(TlsCertificatesTest, ACertificateOfAnotherAuthorityIsRefused) {
  authority_.WriteAll(folder_);
  TestAuthority("another").WriteOwn(folder_);
  ExpectSays(Load(folder_, TlsRole::kSource), {"client-cert.pem", "is refused by", "ca-cert.pem"});
}

TEST_F(TlsCertificatesTest, ACertificateForTheOtherSideIsRefused) {
  authority_.WriteAll(folder_);
  authority_.Write(folder_, "client", {.purposes = "serverAuth"});
  ExpectSays(Load(folder_, TlsRole::kSource), {"client-cert.pem", "clientAuth"});
  authority_.Write(folder_, "server", {.purposes = "clientAuth"});
  ExpectSays(Load(folder_, TlsRole::kDestination), {"server-cert.pem", "serverAuth"});
}

TEST_F(TlsCertificatesTest, AnAuthorityThatIsNoneIsRefused) {
  authority_.WriteAll(folder_);
  rename(folder_.File("server-cert.pem").c_str(), folder_.File("ca-cert.pem").c_str());
  ExpectSays(Load(folder_, TlsRole::kSource), {"ca-cert.pem", "no authority"});
}

TEST_F(TlsCertificatesTest, RevokedAtHomeIsRefused) {
  authority_.WriteAll(folder_);
  authority_.Write(folder_, "client", {.serial = 77});
  authority_.WriteRevocations(folder_, 76);
  EXPECT_TRUE(Load(folder_, TlsRole::kSource).ok());
  authority_.WriteRevocations(folder_, 77);
  ExpectSays(Load(folder_, TlsRole::kSource), {"client-cert.pem", "revoke"});
}

TEST_F(TlsCertificatesTest, AStaleRevocationListIsNamed) {
  authority_.WriteAll(folder_);
  authority_.WriteRevocations(folder_, 76, /*until_days=*/-1);
  ExpectSays(Load(folder_, TlsRole::kSource), {"ca-crl.pem", "was to be renewed by 20"});
  folder_.Write("ca-crl.pem", "nothing\n");
  ExpectSays(Load(folder_, TlsRole::kSource), {"ca-crl.pem", "in PEM form"});
}

TEST(TlsDirectoryTest, TheFirstFolderWithAnAuthorityIsTaken) {
  TestFolder none, first, second;
  TestAuthority authority("a");
  authority.WriteOwn(first);
  authority.WriteOwn(second);
  auto found = FindTlsDirectory({none.path(), first.path(), second.path()});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, first.path());
  auto missing = FindTlsDirectory({none.path(), "/no/such"});
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_NE(MessageOf(missing.status()).find(none.path() + " or /no/such"), std::string::npos);
}

const std::string kGoodKey(64, '7');

TEST(TlsPskTest, FilesAsQemuHasThem) {
  TestFolder folder;
  EXPECT_TRUE(LoadPsk(folder, "qemu:" + kGoodKey + "\n").ok());
  EXPECT_TRUE(LoadPsk(folder, "# ours\n\nqemu:" + kGoodKey + "\r\nother:" + kGoodKey).ok());
  EXPECT_TRUE(LoadPsk(folder, "qemu:" + kGoodKey, 0640).ok());
}

TEST(TlsPskTest, EachBadLineIsNamedAndNoKeyIsShown) {
  TestFolder folder;
  const std::string secret = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e7";
  for (const auto& [text, why] : std::initializer_list<std::pair<std::string, const char*>>{
           {"", "no key"},
           {"# nothing\n", "no key"},
           {secret + "\n", "no colon"},
           {":" + secret + "\n", "1 to 128"},
           {std::string(129, 'x') + ":" + secret, "1 to 128"},
           {"a:" + secret.substr(0, 30), "hexadecimal digits"},
           {"a:" + secret + "0", "hexadecimal digits"},
           {"a:" + secret + "xy", "no hexadecimal digit"},
           {"a:" + secret + "\na:" + secret, "has a key already"}}) {
    const absl::Status status = LoadPsk(folder, text);
    ExpectSays(status, {"keys.psk", "line ", why, "identity:key"});
    EXPECT_EQ(MessageOf(status).find("5ec2e7"), std::string::npos) << status;
  }
}

TEST(TlsPskTest, AFileThatOthersMayReadIsRefused) {
  TestFolder folder;
  ExpectSays(LoadPsk(folder, "qemu:" + kGoodKey, 0644), {"keys.psk", "0644", "chmod 0600"});
}

TEST(TlsPskTest, AMissingFileIsNamed) {
  TlsOptions options;
  options.secrets.psk_path = "/no/such/keys.psk";
  ExpectSays(TlsContext::Make(options).status(), {"/no/such/keys.psk"});
}

TEST(PrivateFileTest, OnlyRegularFiles) {
  TestFolder folder;
  ASSERT_EQ(mkfifo(folder.File("pipe").c_str(), 0600), 0);
  ExpectSays(ReadPrivateFile(folder.File("pipe")).status(), {"not a regular file"});
  ExpectSays(ReadPrivateFile(folder.path()).status(), {"not a regular file"});
}

}  // namespace
}  // namespace faultline
