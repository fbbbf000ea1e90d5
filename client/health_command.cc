#include "client/health_command.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "cli/terminal.h"

namespace dla::client {

ExitCode RunHealth(const HealthOptions& options) {
  const auto server = ServerConnection::Make(options.server);
  if (!server.ok()) {
    PrintError(server.status().message());
    return kUsageError;
  }
  const auto state = server->CheckHealth(options.model, options.timeout);
  if (!state.ok()) {
    PrintError(state.status().message());
    return kFailed;
  }
  using Response = grpc::health::v1::HealthCheckResponse;
  const std::string line = absl::StrCat(Response::ServingStatus_Name(*state), "\n");
  const bool printed = cli::WriteAll(STDOUT_FILENO, line).ok();
  return printed && *state == Response::SERVING ? kAllWell : kFailed;
}

}  // namespace dla::client
