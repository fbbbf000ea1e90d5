#include "server/tls_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/certificates.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using dla::testing::CertificateAndKey;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class TlsFilesTest : public ::testing::Test {
 protected:
  TlsPaths Write(const CertificateAndKey& pair, const std::string& client_ca = "") {
    return {.certificate = dir_.Write("cert.pem", pair.certificate),
            .key = dir_.Write("key.pem", pair.key),
            .client_ca = client_ca.empty() ? "" : dir_.Write("ca.pem", client_ca)};
  }
  static std::string ErrorOf(const TlsPaths& paths) {
    return std::string(ReadTlsFiles(paths).status().message());
  }

  dla::testing::TempDir dir_;
  dla::testing::CertificateAuthority authority_{"authority"};
};

TEST_F(TlsFilesTest, ReadsACertificateWithItsChainItsKeyAndTheCallersAuthority) {
  CertificateAndKey pair = authority_.Issue("server");
  pair.certificate += authority_.certificate();
  const auto files = ReadTlsFiles(Write(pair, authority_.certificate()));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->certificate, pair.certificate);
  EXPECT_EQ(files->key, pair.key);
  EXPECT_EQ(files->client_ca, authority_.certificate());
}

TEST_F(TlsFilesTest, RefusesTheKeyOfAnotherCertificate) {
  CertificateAndKey pair = authority_.Issue("server");
  pair.key = authority_.Issue("other").key;
  EXPECT_THAT(ErrorOf(Write(pair)), AllOf(HasSubstr("--tls-key"), HasSubstr("is not the key")));
}

TEST_F(TlsFilesTest, RefusesWhatIsNoCertificateOrKeyAndDoesNotRepeatIt) {
  const CertificateAndKey pair = authority_.Issue("server");
  EXPECT_THAT(ErrorOf(Write({"secret", pair.key})),
              AllOf(HasSubstr("--tls-cert"), HasSubstr("cert.pem"), Not(HasSubstr("secret"))));
  EXPECT_THAT(ErrorOf(Write({pair.certificate, "secret"})),
              AllOf(HasSubstr("--tls-key"), HasSubstr("key.pem"), Not(HasSubstr("secret"))));
  EXPECT_THAT(ErrorOf(Write(pair, "secret")), HasSubstr("--tls-client-ca"));
}

TEST_F(TlsFilesTest, RefusesAChainThatIsCutShort) {
  CertificateAndKey pair = authority_.Issue("server");
  pair.certificate += authority_.certificate().substr(0, 300);
  EXPECT_THAT(ErrorOf(Write(pair)), HasSubstr("--tls-cert"));
}

TEST_F(TlsFilesTest, RefusesACertificateThatHasExpired) {
  EXPECT_THAT(ErrorOf(Write(authority_.Issue("server", /*days=*/0))), HasSubstr("has expired"));
}

TEST_F(TlsFilesTest, NamesTheFlagOfAFileThatIsNotThere) {
  TlsPaths paths = Write(authority_.Issue("server"));
  paths.key = "/does/not/exist";
  EXPECT_THAT(ErrorOf(paths), AllOf(HasSubstr("/does/not/exist"), HasSubstr("--tls-key")));
}

}  // namespace
}  // namespace dla::server
