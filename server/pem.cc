#include "server/pem.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

namespace dla::server {
namespace {

BioPtr Reader(const std::string& pem) {
  return BioPtr(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// A key that is encrypted would otherwise ask the terminal for its pass phrase.
int NoPassPhrase(char*, int, int, void*) { return -1; }

}  // namespace

std::vector<X509Ptr> ReadPemCertificates(const std::string& pem) {
  const BioPtr reader = Reader(pem);
  std::vector<X509Ptr> certificates;
  while (X509* one = PEM_read_bio_X509(reader.get(), nullptr, NoPassPhrase, nullptr)) {
    certificates.emplace_back(one);
  }
  // The end of the file shows as an error, too, and so does a certificate that is cut short.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end) certificates.clear();
  return certificates;
}

KeyPtr ReadPemKey(const std::string& pem) {
  const BioPtr reader = Reader(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(reader.get(), nullptr, NoPassPhrase, nullptr));
  ERR_clear_error();
  return key;
}

}  // namespace dla::server
