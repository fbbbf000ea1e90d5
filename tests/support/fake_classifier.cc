#include "tests/support/fake_classifier.h"

#include <grpcpp/server_builder.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace dla::testing {
namespace {

std::vector<dla::v1::Model> Models() {
  std::vector<dla::v1::Model> models(2);
  models[0].set_name("flowers");
  models[0].set_version("1");
  models[0].set_architecture("dla46_c");
  models[0].set_num_classes(2);
  models[0].set_embedding_size(4);
  models[0].set_parameters(1'070'000);
  models[1].set_name("dla34");
  models[1].set_version("2");
  models[1].set_architecture("dla34");
  models[1].set_num_classes(1000);
  models[1].set_embedding_size(512);
  models[1].set_parameters(15'740'000);
  for (auto& model : models) {
    model.set_input_height(224);
    model.set_input_width(256);
    model.set_precision("bf16");
    model.set_device("cpu");
    model.set_max_batch_size(16);
    model.set_replicas(2);
  }
  return models;
}

}  // namespace

FakeClassifier::FakeClassifier(Handler handler) : handler_(std::move(handler)) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeClassifier::~FakeClassifier() { Stop(); }

int FakeClassifier::calls() const {
  const std::lock_guard lock(mu_);
  return calls_;
}

int FakeClassifier::most_at_once() const {
  const std::lock_guard lock(mu_);
  return most_at_once_;
}

void FakeClassifier::WaitForCallsAtOnce(int count) {
  std::unique_lock lock(mu_);
  more_calls_.wait(lock, [&] { return at_once_ >= count; });
}

void FakeClassifier::Stop() { server_->Shutdown(absl::ToChronoTime(absl::Now())); }

grpc::Status FakeClassifier::DefaultAnswer(const dla::v1::ClassifyRequest& request,
                                           grpc::ServerContext&,
                                           dla::v1::ClassifyResponse& response) {
  if (request.image().rfind("bad", 0) == 0) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "not an image: the file begins with \"bad\""};
  }
  response.set_model(request.model().empty() ? "flowers" : request.model());
  response.set_model_version("1");
  auto* first = response.add_classes();
  first->set_index(7);
  first->set_label(request.image());
  first->set_id("n07");
  first->set_probability(0.75f);
  if (request.top_k() != 1) {
    auto* second = response.add_classes();
    second->set_index(1);
    second->set_label("other");
    second->set_probability(0.25f);
  }
  if (request.include_embedding()) {
    response.mutable_embedding()->Add(static_cast<float>(request.image().size()));
    for (float value : {0.5f, -1.5f, 1e-7f}) response.mutable_embedding()->Add(value);
  }
  response.mutable_timing()->mutable_decode()->set_nanos(1'500'000);
  response.mutable_timing()->mutable_queue()->set_nanos(250'000);
  response.mutable_timing()->mutable_inference()->set_seconds(1);
  response.mutable_timing()->set_batch_size(3);
  return grpc::Status::OK;
}

grpc::Status FakeClassifier::Busy(int retry_milliseconds) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(retry_milliseconds / 1000);
  info.mutable_retry_delay()->set_nanos(retry_milliseconds % 1000 * 1'000'000);
  google::rpc::Status details;
  details.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
  details.add_details()->PackFrom(info);
  return {grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full", details.SerializeAsString()};
}

grpc::Status FakeClassifier::Classify(grpc::ServerContext* context,
                                      const dla::v1::ClassifyRequest* request,
                                      dla::v1::ClassifyResponse* response) {
  {
    const std::lock_guard lock(mu_);
    ++calls_;
    most_at_once_ = std::max(most_at_once_, ++at_once_);
    more_calls_.notify_all();
  }
  grpc::Status status = handler_(*request, *context, *response);
  const std::lock_guard lock(mu_);
  --at_once_;
  return status;
}

grpc::Status FakeClassifier::ListModels(grpc::ServerContext*, const dla::v1::ListModelsRequest*,
                                        dla::v1::ListModelsResponse* response) {
  for (const auto& model : Models()) *response->add_models() = model;
  return grpc::Status::OK;
}

grpc::Status FakeClassifier::GetModel(grpc::ServerContext*, const dla::v1::GetModelRequest* request,
                                      dla::v1::Model* response) {
  for (const auto& model : Models()) {
    if (!request->name().empty() && request->name() != model.name()) continue;
    *response = model;
    response->add_labels("rose");
    response->add_labels("tulip \x1b[31m");
    return grpc::Status::OK;
  }
  return {grpc::StatusCode::NOT_FOUND,
          absl::StrCat("no model \"", request->name(), "\"; served are flowers, dla34")};
}

}  // namespace dla::testing
