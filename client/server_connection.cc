#include "client/server_connection.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/credentials.h"
#include "client/grpc_errors.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace dla::client {
namespace {

constexpr absl::string_view kDefaultPort = "8001";
constexpr int kMaxAnswerBytes = 64 << 20;

grpc::ChannelArguments Arguments(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  // gRPC's own steps go up to two minutes: too long for a server that is restarted.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Despite its name, how long one attempt to connect may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(kConnectTimeout)));
  // Two connections of this process are two, even if they lead to the same server.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // No proxy of the environment leads back to this machine.
  if (IsLoopback(address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + kConnectTimeout));
}

}  // namespace

std::string WithDefaultPort(const std::string& address) {
  if (absl::StrContains(address, "://") || absl::StartsWith(address, "unix:")) return address;
  const bool bracketed = absl::StartsWith(address, "[");
  const auto colons = std::count(address.begin(), address.end(), ':');
  if (bracketed ? absl::EndsWith(address, "]") : colons == 0) {
    return absl::StrCat(address, ":", kDefaultPort);
  }
  if (!bracketed && colons > 1) return absl::StrCat("[", address, "]:", kDefaultPort);
  return address;
}

bool IsLoopback(const std::string& address) {
  for (absl::string_view host : {"localhost:", "127.", "[::1]:", "unix:"}) {
    if (absl::StartsWith(address, host)) return true;
  }
  return false;
}

absl::StatusOr<ServerConnection> ServerConnection::Make(const ServerOptions& options) {
  const auto credentials = MakeCredentials(options);
  if (!credentials.ok()) return credentials.status();
  const absl::StatusOr<std::string> token = ReadToken(options);
  if (!token.ok()) return token.status();
  std::string address = WithDefaultPort(options.address);
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  if (!token->empty()) interceptors.push_back(SendToken(*token));
  std::shared_ptr<grpc::Channel> channel = grpc::experimental::CreateCustomChannelWithInterceptors(
      address, *credentials, Arguments(address), std::move(interceptors));
  return ServerConnection(std::move(address), std::move(channel));
}

ServerConnection::ServerConnection(const std::string& address)
    : ServerConnection(
          WithDefaultPort(address),
          grpc::CreateCustomChannel(WithDefaultPort(address), grpc::InsecureChannelCredentials(),
                                    Arguments(WithDefaultPort(address)))) {}

ServerConnection::ServerConnection(std::string address, std::shared_ptr<grpc::Channel> channel)
    : address_(std::move(address)),
      channel_(std::move(channel)),
      stub_(dla::v1::Classifier::NewStub(channel_)) {}

absl::StatusOr<dla::v1::Model> ServerConnection::GetModel(const std::string& name) const {
  grpc::ClientContext context;
  SetDeadline(context);
  dla::v1::GetModelRequest request;
  request.set_name(name);
  dla::v1::Model model;
  const grpc::Status status = stub_->GetModel(&context, request, &model);
  if (!status.ok()) return Explain(status);
  return model;
}

absl::StatusOr<std::vector<dla::v1::Model>> ServerConnection::ListModels() const {
  grpc::ClientContext context;
  SetDeadline(context);
  dla::v1::ListModelsResponse response;
  const grpc::Status status = stub_->ListModels(&context, {}, &response);
  if (!status.ok()) return Explain(status);
  return std::vector<dla::v1::Model>(response.models().begin(), response.models().end());
}

absl::StatusOr<grpc::health::v1::HealthCheckResponse::ServingStatus> ServerConnection::CheckHealth(
    const std::string& model, absl::Duration timeout) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(model);
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status =
      grpc::health::v1::Health::NewStub(channel_)->Check(&context, request, &response);
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) {
    return absl::NotFoundError(absl::StrCat(address_, " serves no model \"", model,
                                            "\"; `dla-client models` lists what it serves"));
  }
  if (!status.ok()) return Explain(status);
  return response.status();
}

absl::Status ServerConnection::Explain(const grpc::Status& status) const {
  const absl::Status plain = FromGrpc(status);
  switch (plain.code()) {
    case absl::StatusCode::kUnavailable:
      if (absl::StrContains(plain.message(), "certificate verify failed")) {
        return absl::UnavailableError(
            absl::StrCat("the certificate of ", address_,
                         " is not to be trusted: name the authority that has signed it with "
                         "--tls-ca FILE"));
      }
      [[fallthrough]];
    case absl::StatusCode::kDeadlineExceeded:
      return absl::UnavailableError(
          absl::StrCat("no server is available at ", address_, " (",
                       IsLocalTimeout(status) ? "no answer" : plain.message(),
                       "): start one with `dla-server`, or name another with --server HOST:PORT"));
    case absl::StatusCode::kUnimplemented:
      return absl::UnimplementedError(
          absl::StrCat("what answers at ", address_, " is no dla-server: ", plain.message()));
    case absl::StatusCode::kUnauthenticated:
      return absl::UnauthenticatedError(absl::StrCat(
          address_, ": ", plain.message(), " (dla-client: --token-file FILE or $DLA_TOKEN)"));
    default:
      return absl::Status(plain.code(), absl::StrCat(address_, ": ", plain.message()));
  }
}

}  // namespace dla::client
