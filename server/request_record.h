// What the metrics learn of one request.
#pragma once

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "server/clock.h"
#include "server/metrics.h"
#include "server/model_statistics.h"
#include "server/served_model.h"

namespace dla::server {

// Starts when it is made. Not thread-safe.
class RequestRecord {
 public:
  // `model` is charged until SetModel names the real one.
  RequestRecord(RequestMetrics& model, Method method, Clock& clock)
      : model_(&model), method_(method), clock_(clock), start_(clock.Now()) {}

  // Holds the model.
  void SetModel(std::shared_ptr<ServedModel> model) {
    model_ = &model->metrics();
    served_ = std::move(model);
  }

  void Finish(absl::StatusCode code) {
    const Duration took = clock_.Now() - start_;
    model_->CountRequest(method_, code);
    model_->request_seconds->Observe(Seconds(took));
    if (served_ != nullptr) served_->statistics().AddRequest(code == absl::StatusCode::kOk, took);
  }

 private:
  RequestMetrics* model_;
  std::shared_ptr<ServedModel> served_;
  const Method method_;
  Clock& clock_;
  const TimePoint start_;
};

}  // namespace dla::server
