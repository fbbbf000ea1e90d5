#include "server/health_publisher.h"

#include <memory>

namespace dla::server {

void HealthPublisher::Start(grpc::HealthCheckServiceInterface& service) {
  MutexLock lock(mu_);
  service_ = &service;
}

void HealthPublisher::Stop() {
  MutexLock lock(mu_);
  service_ = nullptr;
}

void HealthPublisher::Publish(const std::string& name) {
  // The last reference to a model may be this one; it is let go of without the lock.
  std::shared_ptr<ServedModel> model;
  // With the lock from the question to the telling, so that what is told last is true.
  MutexLock lock(mu_);
  if (service_ == nullptr) return;
  if (auto found = registry_.Find(name); found.ok()) model = *std::move(found);
  service_->SetServingStatus(name, model != nullptr && model->health().healthy());
}

}  // namespace dla::server
