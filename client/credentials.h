// How the client tells a server who it is.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/support/client_interceptor.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace dla::client {

struct ServerOptions;

// For TLS where any option asks for it, else for plaintext. INVALID_ARGUMENT names the option and
// the file that is wrong.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const ServerOptions& options);

// The first line of the token file, else $DLA_TOKEN; empty if there is neither. INVALID_ARGUMENT,
// which repeats nothing of it, for what is no token.
absl::StatusOr<std::string> ReadToken(const ServerOptions& options);

// Sends the token with every call of a channel. gRPC's own credentials for calls would insist on
// TLS, which a tunnel or a proxy on this machine may have ended.
std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> SendToken(
    const std::string& token);

}  // namespace dla::client
