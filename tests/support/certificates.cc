#include "tests/support/certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <stdexcept>

#include "server/openssl_ptr.h"

namespace dla::testing {
namespace {

using server::KeyPtr;
using server::X509Ptr;

KeyPtr NewKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) throw std::runtime_error("OpenSSL makes no key");
  return key;
}

X509Ptr NewCertificate(const std::string& common_name, EVP_PKEY* key, int days) {
  static std::atomic<long> serial = 1;
  X509Ptr certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -86'400);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), days * 86'400L);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  return certificate;
}

void Extend(X509* certificate, int kind, const char* value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

template <typename Write>
std::string Pem(Write write) {
  BIO* bio = BIO_new(BIO_s_mem());
  write(bio);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  std::string pem(bytes, size);
  BIO_free(bio);
  return pem;
}

std::string Pem(X509* certificate) {
  return Pem([certificate](BIO* bio) { PEM_write_bio_X509(bio, certificate); });
}

}  // namespace

struct CertificateAuthority::Parts {
  KeyPtr key;
  X509Ptr certificate;
};

CertificateAuthority::CertificateAuthority(const std::string& name)
    : parts_(std::make_unique<Parts>()) {
  parts_->key = NewKey();
  parts_->certificate = NewCertificate(name, parts_->key.get(), 10);
  X509* certificate = parts_->certificate.get();
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  Extend(certificate, NID_basic_constraints, "critical,CA:TRUE");
  X509_sign(certificate, parts_->key.get(), EVP_sha256());
  certificate_ = Pem(certificate);
}

CertificateAuthority::~CertificateAuthority() = default;

CertificateAndKey CertificateAuthority::Issue(const std::string& common_name, int days) const {
  const KeyPtr key = NewKey();
  const X509Ptr certificate = NewCertificate(common_name, key.get(), days);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(parts_->certificate.get()));
  Extend(certificate.get(), NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
  X509_sign(certificate.get(), parts_->key.get(), EVP_sha256());
  return {Pem(certificate.get()), Pem([&key](BIO* bio) {
            PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

}  // namespace dla::testing
