#include "server/http_tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <utility>
#include <vector>

#include "server/pem.h"

namespace dla::server {
namespace {

constexpr unsigned char kSessionContext[] = "dla-serve";

// Of files that were checked before.
SslContextPtr MakeContext(const TlsFiles& files) {
  SslContextPtr context(SSL_CTX_new(TLS_server_method()));
  const std::vector<X509Ptr> chain = ReadPemCertificates(files.certificate);
  const KeyPtr key = ReadPemKey(files.key);
  if (context == nullptr || chain.empty() || key == nullptr) return nullptr;
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_use_certificate(context.get(), chain[0].get());
  for (size_t i = 1; i < chain.size(); ++i) SSL_CTX_add1_chain_cert(context.get(), chain[i].get());
  SSL_CTX_use_PrivateKey(context.get(), key.get());
  SSL_CTX_set_session_id_context(context.get(), kSessionContext, sizeof kSessionContext - 1);
  if (!files.client_ca.empty()) {
    for (const X509Ptr& authority : ReadPemCertificates(files.client_ca)) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), authority.get());
      SSL_CTX_add_client_CA(context.get(), authority.get());
    }
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  ERR_clear_error();
  return context;
}

std::string Text(const ASN1_STRING* text) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                     ASN1_STRING_length(text));
}

}  // namespace

HttpTls::HttpTls(const TlsFiles& files) : context_(MakeContext(files)) {}

void HttpTls::Set(const TlsFiles& files) {
  SslContextPtr context = MakeContext(files);
  MutexLock lock(mu_);
  if (context != nullptr) context_.swap(context);
}

SslPtr HttpTls::NewConnection() const {
  MutexLock lock(mu_);
  return SslPtr(context_ == nullptr ? nullptr : SSL_new(context_.get()));  // counts the context
}

std::string PeerName(const SSL& connection) {
  const X509Ptr certificate(SSL_get1_peer_certificate(&connection));
  if (certificate == nullptr) return "";
  using NamesPtr = std::unique_ptr<GENERAL_NAMES, OpensslFree<GENERAL_NAMES_free>>;
  const NamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS || name->type == GEN_EMAIL || name->type == GEN_URI) {
      return Text(name->d.ia5);
    }
  }
  const X509_NAME* subject = X509_get_subject_name(certificate.get());
  const int common_name = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (common_name < 0) return "";
  return Text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, common_name)));
}

}  // namespace dla::server
