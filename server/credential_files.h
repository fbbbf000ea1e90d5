// The files that say whom the server trusts, read again while it serves.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "server/clock.h"
#include "server/gatekeeper.h"
#include "server/http_tls.h"
#include "server/mutex.h"
#include "server/settled.h"
#include "server/tls_credentials.h"
#include "server/tls_files.h"
#include "server/token_table.h"

namespace dla::server {

// Thread-safe.
class CredentialFiles {
 public:
  struct Options {
    TlsPaths tls;            // an empty certificate: no TLS
    std::string token_file;  // empty: no tokens
    // Between two looks at the files; zero: only Reload looks. What has changed is used once two
    // looks in a row saw the same, so that no half-written file is.
    Duration poll{};
  };

  // Reads the files. Errors are one line for the operator.
  static absl::StatusOr<std::unique_ptr<CredentialFiles>> Read(Options options, Clock& clock);

  ~CredentialFiles();

  // Null without TLS. Shared with gRPC.
  const std::shared_ptr<TlsCredentials>& tls() const { return tls_; }
  // Null without TLS. Shared with the HTTP server.
  const std::shared_ptr<HttpTls>& http_tls() const { return http_tls_; }
  // As read at the start; null if there are none.
  std::shared_ptr<const TokenTable> tokens() const;

  // Looks at the files from time to time and tells `gatekeeper`, which outlives this, of new
  // tokens. Called at most once, before Reload.
  void Watch(Gatekeeper& gatekeeper);

  // Looks now and uses what is there at once. What cannot be read or is wrong leaves everything as
  // it was. The log says what came of it.
  void Reload();

 private:
  CredentialFiles(Options options, Clock& clock) : options_(std::move(options)), clock_(clock) {}

  void Look(bool at_once);

  const Options options_;
  Clock& clock_;
  std::shared_ptr<TlsCredentials> tls_;
  std::shared_ptr<HttpTls> http_tls_;
  Gatekeeper* gatekeeper_ = nullptr;

  Mutex mu_;
  CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  mutable Mutex look_mu_;  // one look at a time
  std::optional<Settled<TlsFiles>> tls_files_ ABSL_GUARDED_BY(look_mu_);
  std::optional<Settled<TokenTable>> token_table_ ABSL_GUARDED_BY(look_mu_);
  std::thread thread_;
};

}  // namespace dla::server
