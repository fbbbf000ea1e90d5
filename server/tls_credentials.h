// TLS for gRPC whose certificates can be changed while it serves.
#pragma once

#include <memory>

#include "grpcpp/security/server_credentials.h"
#include "server/mutex.h"
#include "server/tls_files.h"

namespace dla::server {

// TLS 1.2 and 1.3. Every handshake uses the newest files; connections that are open keep what they
// began with. Serves one port only, as gRPC asks each port's credentials but once for a change.
// Not TlsServerCredentials with a file watcher: that one hands a pair that does not match to gRPC,
// and from then on every handshake fails. Thread-safe.
class TlsCredentials final : public grpc::ServerCredentials {
 public:
  // What ReadTlsFiles has checked. Whether callers must show a certificate is decided here for
  // good: they must if there is a client_ca.
  explicit TlsCredentials(TlsFiles files);
  ~TlsCredentials() override;

  void Set(TlsFiles files);

  // gRPC's check of metadata is not used; see Gatekeeper.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override;

  // gRPC asks this before each handshake.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config);
  grpc_ssl_server_certificate_config* Config() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const bool ask_callers_;
  Mutex mu_;
  TlsFiles files_ ABSL_GUARDED_BY(mu_);
  bool changed_ ABSL_GUARDED_BY(mu_) = true;
};

}  // namespace dla::server
