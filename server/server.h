// The whole server, put together. main.cc starts one; so do the tests.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/clock.h"
#include "server/config.h"
#include "server/gpu_device.h"
#include "server/model_loader.h"
#include "server/pipeline.h"

namespace dla::server {

// What the server does not know how to do itself: everything that needs LibTorch.
struct ServerDependencies {
  LoadFunction load_model;
  SelfTestFunction self_test = nullptr;
  DecodeFunction decode;
  PixelsFunction count_pixels = nullptr;
  std::function<void()> prepare_decode_thread;  // may be empty
  std::vector<GpuDevice> gpus = {};             // those that models may be put on
  Clock& clock = Clock::Real();
};

class Server {
 public:
  // Loads all models, then opens the ports. Errors are one line for the operator: a model that
  // cannot be loaded, an address that cannot be had.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerConfig& config,
                                                       const ServerDependencies& dependencies);

  // Shuts down at once if Drain was not called.
  ~Server();

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Refuses new requests, waits until all accepted ones are answered, at most `timeout`; what is
  // unanswered then is cancelled. DEADLINE_EXCEEDED in that case.
  absl::Status Drain(Duration timeout);

  // Labels of all models from now on, by model. Does not block; what comes of it is in the log.
  void SetVersionLabels(const std::map<std::string, VersionLabels>& labels);

  // Certificates and tokens are read again and used from now on; wrong ones leave the old. What
  // comes of it is in the log.
  void ReloadCredentials();

  // HOST:PORT with the ports that were really bound.
  const std::string& grpc_address() const;
  const std::string& http_address() const;
  const std::string& metrics_address() const;

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace dla::server
