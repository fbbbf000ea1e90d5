#include "server/tls_credentials.h"

#include <utility>

#include "grpc/grpc.h"
#include "grpc/grpc_security.h"

namespace dla::server {

TlsCredentials::TlsCredentials(TlsFiles files)
    : ask_callers_(!files.client_ca.empty()), files_(std::move(files)) {}

TlsCredentials::~TlsCredentials() = default;

void TlsCredentials::Set(TlsFiles files) {
  MutexLock lock(mu_);
  files_ = std::move(files);
  changed_ = true;
}

int TlsCredentials::AddPortToServer(const std::string& address, grpc_server* server) {
  grpc_server_credentials* credentials = grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(
          ask_callers_ ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                       : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
          &Fetch, this));
  if (credentials == nullptr) return 0;
  const int port = grpc_server_add_http2_port(server, address.c_str(), credentials);
  grpc_server_credentials_release(credentials);
  return port;
}

grpc_ssl_certificate_config_reload_status TlsCredentials::Fetch(
    void* self, grpc_ssl_server_certificate_config** config) {
  auto& credentials = *static_cast<TlsCredentials*>(self);
  MutexLock lock(credentials.mu_);
  if (!credentials.changed_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  credentials.changed_ = false;
  *config = credentials.Config();
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

grpc_ssl_server_certificate_config* TlsCredentials::Config() const {
  const grpc_ssl_pem_key_cert_pair pair = {files_.key.c_str(), files_.certificate.c_str()};
  // gRPC insists on roots, even where it asks nobody for a certificate and they mean nothing.
  const std::string& roots = files_.client_ca.empty() ? files_.certificate : files_.client_ca;
  return grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
}

}  // namespace dla::server
