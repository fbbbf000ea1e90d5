// `dla-client bench`: what a server does under load.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/load_pacer.h"
#include "client/photo_run.h"
#include "client/server_connection.h"
#include "dla/v1/classifier.pb.h"

namespace dla::client {

struct BenchOptions {
  std::vector<std::string> paths;
  ServerOptions server;
  LoadPlan load;
  int connections = 1;
  absl::Duration timeout = absl::Seconds(60);  // of one request, from when it is due
  size_t max_file_size = size_t{32} << 20;
  dla::v1::ClassifyRequest request;  // the image is filled in
  bool json = false;
};

// Holds at most 1000 photos and 256 MiB of them in memory; it says so if there are more. Figures go
// to standard output, progress and warnings to standard error. kFailed if a request failed or none
// was answered. SIGINT ends the load, prints the figures so far and gives kInterrupted.
ExitCode RunBench(const BenchOptions& options);

}  // namespace dla::client
