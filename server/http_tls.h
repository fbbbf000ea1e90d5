// TLS for HTTP whose certificates can be changed while it serves.
#pragma once

#include <openssl/ssl.h>

#include <memory>

#include "absl/status/statusor.h"
#include "server/mutex.h"
#include "server/openssl_ptr.h"
#include "server/tls_files.h"

namespace dla::server {

using SslContextPtr = std::unique_ptr<SSL_CTX, OpensslFree<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, OpensslFree<SSL_free>>;

// TLS 1.2 and 1.3, as TlsCredentials has it for gRPC: every handshake uses the newest files, and
// callers must show a certificate if there is a client_ca. Thread-safe.
class HttpTls {
 public:
  // What ReadTlsFiles has checked.
  explicit HttpTls(const TlsFiles& files);

  void Set(const TlsFiles& files);

  // For the server's side of one connection. Null if memory is short.
  SslPtr NewConnection() const;

 private:
  mutable Mutex mu_;
  SslContextPtr context_ ABSL_GUARDED_BY(mu_);
};

// The name in the certificate that the other side has shown and proved to own, the same that gRPC
// takes: the first subject alternative name, else the common name; empty if it showed none.
std::string PeerName(const SSL& connection);

}  // namespace dla::server
