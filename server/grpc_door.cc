#include "server/grpc_door.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.pb.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server_builder.h"
#include "model/status_macros.h"
#include "server/address.h"

namespace dla::server {
namespace {

constexpr int kMaxPingStrikes = 2;
constexpr int kKeepaliveTimeoutMs = 20'000;

// gRPC adds reflection to every server of a process; this takes it from one.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    const std::string reflection = grpc::reflection::ProtoServerReflectionPlugin().name();
    std::erase_if(*plugins, [&](const auto& plugin) { return plugin->name() == reflection; });
  }
};

void SetLimits(const ServerConfig& config, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(config.max_message_bytes);
  if (config.max_receive_bytes > 0) {
    builder.SetResourceQuota(
        grpc::ResourceQuota("receive").Resize(static_cast<size_t>(config.max_receive_bytes)));
  }
  const auto set = [&builder](const char* name, int value) {
    builder.AddChannelArgument(name, value);
  };
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_concurrent_streams);
  set(GRPC_ARG_MAX_METADATA_SIZE, config.max_metadata_bytes);
  // Covers TLS's handshake and, with and without it, the first frame of HTTP/2.
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, config.handshake_timeout_s * 1000);
  // Callers that ping more often than they may are told ENHANCE_YOUR_CALM and hung up on.
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, config.min_ping_interval_s * 1000);
  set(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kMaxPingStrikes);
  // Callers that are gone without a word do not keep their connection.
  set(GRPC_ARG_KEEPALIVE_TIME_MS, config.keepalive_s * 1000);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, std::min(config.keepalive_s * 1000, kKeepaliveTimeoutMs));
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  if (config.max_connection_idle_s > 0) {
    set(GRPC_ARG_MAX_CONNECTION_IDLE_MS, config.max_connection_idle_s * 1000);
  }
  if (config.max_connection_age_s > 0) {
    set(GRPC_ARG_MAX_CONNECTION_AGE_MS, config.max_connection_age_s * 1000);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcDoor>> GrpcDoor::Start(
    const ServerConfig& config, const std::vector<grpc::Service*>& services,
    std::shared_ptr<TlsCredentials> tls, const ConnectionMetrics& metrics) {
  std::unique_ptr<GrpcDoor> door(new GrpcDoor());
  DLA_ASSIGN_OR_RETURN(door->connections_, ConnectionDoor::Listen(config.grpc_address,
                                                                  config.max_connections, metrics));
  door->address_ = WithPort(config.grpc_address, door->connections_->port());

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  // gRPC's own health service comes without the descriptors that reflection is asked for.
  grpc::health::v1::HealthCheckRequest::descriptor();
  grpc::ServerBuilder builder;
  if (!config.reflection) builder.SetOption(std::make_unique<NoReflection>());
  SetLimits(config, builder);
  for (grpc::Service* service : services) builder.RegisterService(service);
  door->tls_ = tls;
  std::shared_ptr<grpc::ServerCredentials> credentials = std::move(tls);
  if (credentials == nullptr) credentials = grpc::InsecureServerCredentials();
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  door->server_ = builder.BuildAndStart();
  if (door->server_ == nullptr) {
    return absl::InternalError(absl::StrCat("gRPC does not start on ", config.grpc_address));
  }
  door->connections_->Open(std::move(acceptor));
  return door;
}

GrpcDoor::~GrpcDoor() { Shutdown(std::chrono::system_clock::now()); }

void GrpcDoor::Shutdown(std::chrono::system_clock::time_point deadline) {
  if (connections_ != nullptr) connections_->Close();
  if (server_ != nullptr) server_->Shutdown(deadline);
}

}  // namespace dla::server
