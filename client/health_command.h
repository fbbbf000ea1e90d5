// `dla-client health`: whether the server, or one of its models, takes requests.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "client/photo_run.h"
#include "client/server_connection.h"

namespace dla::client {

struct HealthOptions {
  ServerOptions server;
  std::string model;  // empty: the whole server
  absl::Duration timeout = absl::Seconds(2);
};

// Prints the state in one word, as the health protocol names it. All well when it is SERVING.
ExitCode RunHealth(const HealthOptions& options);

}  // namespace dla::client
