#include "server/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/status_macros.h"
#include "model/whole_file.h"
#include "server/openssl_ptr.h"

namespace dla::server {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

BioPtr Reader(const std::string& pem) {
  return BioPtr(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// A key that is encrypted would otherwise ask the terminal for its pass phrase.
int NoPassPhrase(char*, int, int, void*) { return -1; }

absl::Status Wrong(absl::string_view flag, const std::string& path, absl::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", path, " ", what));
}

absl::StatusOr<std::vector<X509Ptr>> ParseCertificates(absl::string_view flag,
                                                       const std::string& path,
                                                       const std::string& pem) {
  const BioPtr reader = Reader(pem);
  std::vector<X509Ptr> certificates;
  while (X509* one = PEM_read_bio_X509(reader.get(), nullptr, NoPassPhrase, nullptr)) {
    certificates.emplace_back(one);
  }
  // The end of the file shows as an error, too, and so does a certificate that is cut short.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (certificates.empty() || !at_end) {
    return Wrong(flag, path,
                 "is no list of certificates in PEM format (-----BEGIN CERTIFICATE-----)");
  }
  return certificates;
}

}  // namespace

absl::StatusOr<TlsFiles> ReadTlsFiles(const TlsPaths& paths) {
  TlsFiles files;
  DLA_ASSIGN_OR_RETURN(files.certificate,
                       ReadWholeFile(paths.certificate, kMaxFileBytes, "see --tls-cert"));
  DLA_ASSIGN_OR_RETURN(files.key, ReadWholeFile(paths.key, kMaxFileBytes, "see --tls-key"));
  DLA_ASSIGN_OR_RETURN(const std::vector<X509Ptr> chain,
                       ParseCertificates("--tls-cert", paths.certificate, files.certificate));
  const BioPtr reader = Reader(files.key);
  const KeyPtr key(PEM_read_bio_PrivateKey(reader.get(), nullptr, NoPassPhrase, nullptr));
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
  const absl::Status client_ca =
      ParseCertificates("--tls-client-ca", paths.client_ca, files.client_ca).status();
  if (!client_ca.ok()) return client_ca;
  return files;
}

}  // namespace dla::server
