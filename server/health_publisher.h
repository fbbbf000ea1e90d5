// Tells gRPC's health service which models serve.
#pragma once

#include <string>

#include "grpcpp/health_check_service_interface.h"
#include "server/model_registry.h"
#include "server/mutex.h"

namespace dla::server {

// A name serves if its default version is loaded and healthy. Thread-safe.
class HealthPublisher {
 public:
  // `registry` lives until Stop.
  explicit HealthPublisher(const ModelRegistry& registry) : registry_(registry) {}

  // `service` lives until Stop.
  void Start(grpc::HealthCheckServiceInterface& service);
  void Stop();

  // Something about the model of this name may have changed. No effect before Start and after Stop.
  void Publish(const std::string& name);

 private:
  const ModelRegistry& registry_;
  Mutex mu_;
  grpc::HealthCheckServiceInterface* service_ ABSL_GUARDED_BY(mu_) = nullptr;
};

}  // namespace dla::server
