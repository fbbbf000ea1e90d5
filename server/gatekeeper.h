// Says of each call who makes it and whether they may.
#pragma once

#include <memory>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "server/clock.h"
#include "server/mutex.h"
#include "server/token_table.h"

namespace dla::server {

// Who calls: the token's name; else the name in the certificate that the caller proved to own; else
// what the trusted metadata says; else the address without its port. At most 128 bytes, any bytes
// in all but the first case.
struct Identity {
  std::string name;
};

// What a call shows of who makes it, over whichever protocol. Views live as long as the call.
class CallInfo {
 public:
  // All values of a key of gRPC's metadata or of an HTTP header; `key` is in lower case.
  virtual absl::InlinedVector<absl::string_view, 1> Values(const std::string& key) const = 0;
  // The name in the certificate that the caller proved to own; empty if none.
  virtual std::string CertificateName() const = 0;
  // Where it comes from, without the port.
  virtual std::string Host() const = 0;

 protected:
  ~CallInfo() = default;
};

// Thread-safe. Every handler of every service calls Admit before anything else, but those that
// tell health alone.
class Gatekeeper {
 public:
  struct Options {
    // Null: everything is open to everybody.
    std::shared_ptr<const TokenTable> tokens;
    // A key of metadata that names the caller, written by a trusted proxy; empty: none.
    std::string client_id_metadata;
  };

  Gatekeeper(Options options, Clock& clock);

  // UNAUTHENTICATED without a token, or with one that nobody has; PERMISSION_DENIED if its scopes
  // do not include `needed`. Denials are logged, at most 10 lines in 10 seconds, never the token.
  // `method` is for the log.
  absl::StatusOr<Identity> Admit(const CallInfo& call, Scope needed,
                                 absl::string_view method) const;
  absl::StatusOr<Identity> Admit(const grpc::ServerContextBase& call, Scope needed,
                                 absl::string_view method) const;

  // The tokens of all calls from now on. There must have been some from the beginning.
  void SetTokens(std::shared_ptr<const TokenTable> tokens);

 private:
  absl::StatusOr<Identity> AdmitByToken(const TokenTable& tokens, const CallInfo& call,
                                        Scope needed) const;
  Identity NameOf(const CallInfo& call) const;
  void LogDenial(const CallInfo& call, absl::string_view method, const absl::Status& why) const;

  const bool open_;
  const std::string client_id_metadata_;
  Clock& clock_;
  mutable Mutex mu_;
  std::shared_ptr<const TokenTable> tokens_ ABSL_GUARDED_BY(mu_);
  mutable TimePoint lines_since_ ABSL_GUARDED_BY(mu_);
  mutable int lines_ ABSL_GUARDED_BY(mu_) = 0;
  mutable int64_t unlogged_ ABSL_GUARDED_BY(mu_) = 0;
};

// "ipv4:192.0.2.1:5000", as gRPC names a peer, to "192.0.2.1"; likewise IPv6, without brackets;
// "unix:/path" to "unix".
std::string PeerHost(absl::string_view peer);

}  // namespace dla::server
