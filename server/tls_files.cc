#include "server/tls_files.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/status_macros.h"
#include "model/whole_file.h"
#include "server/pem.h"

namespace dla::server {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

absl::Status Wrong(absl::string_view flag, const std::string& path, absl::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", path, " ", what));
}

absl::Status NoCertificates(absl::string_view flag, const std::string& path) {
  return Wrong(flag, path,
               "is no list of certificates in PEM format (-----BEGIN CERTIFICATE-----)");
}

}  // namespace

absl::StatusOr<TlsFiles> ReadTlsFiles(const TlsPaths& paths) {
  TlsFiles files;
  DLA_ASSIGN_OR_RETURN(files.certificate,
                       ReadWholeFile(paths.certificate, kMaxFileBytes, "see --tls-cert"));
  DLA_ASSIGN_OR_RETURN(files.key, ReadWholeFile(paths.key, kMaxFileBytes, "see --tls-key"));
  const std::vector<X509Ptr> chain = ReadPemCertificates(files.certificate);
  if (chain.empty()) return NoCertificates("--tls-cert", paths.certificate);
  const KeyPtr key = ReadPemKey(files.key);
  if (key == nullptr) {
    return Wrong("--tls-key", paths.key, "is no private key in PEM format without a pass phrase");
  }
  if (X509_check_private_key(chain[0].get(), key.get()) != 1) {
    return Wrong(
        "--tls-key", paths.key,
        absl::StrCat("is not the key of the first certificate of --tls-cert ", paths.certificate));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(chain[0].get())) < 0) {
    return Wrong("--tls-cert", paths.certificate, "has expired; renew it");
  }
  if (paths.client_ca.empty()) return files;
  DLA_ASSIGN_OR_RETURN(files.client_ca,
                       ReadWholeFile(paths.client_ca, kMaxFileBytes, "see --tls-client-ca"));
  if (ReadPemCertificates(files.client_ca).empty()) {
    return NoCertificates("--tls-client-ca", paths.client_ca);
  }
  return files;
}

}  // namespace dla::server
