// What the metrics learn of one request.
#pragma once

#include "absl/status/status.h"
#include "server/clock.h"
#include "server/metrics.h"

namespace dla::server {

// Starts when it is made. Not thread-safe.
class RequestRecord {
 public:
  // `model` is charged until SetModel names the real one.
  RequestRecord(RequestMetrics& model, Method method, Clock& clock)
      : model_(&model), method_(method), clock_(clock), start_(clock.Now()) {}

  void SetModel(RequestMetrics& model) { model_ = &model; }

  void Finish(absl::StatusCode code) {
    model_->CountRequest(method_, code);
    model_->request_seconds->Observe(Seconds(clock_.Now() - start_));
  }

 private:
  RequestMetrics* model_;
  const Method method_;
  Clock& clock_;
  const TimePoint start_;
};

}  // namespace dla::server
