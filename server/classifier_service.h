// dla.v1.Classifier on gRPC's callback API.
#pragma once

#include "absl/container/flat_hash_set.h"
#include "dla/v1/classifier.grpc.pb.h"
#include "server/clock.h"
#include "server/metrics.h"
#include "server/model_registry.h"
#include "server/mutex.h"
#include "server/pipeline.h"

namespace dla::server {

class ClassifyStreamReactor;
class PhotoReactor;

// What the calls share. All of it outlives the service.
struct ServiceContext {
  const ModelRegistry& registry;
  Pipeline& pipeline;
  RequestMetrics& unknown_model;  // counts requests for models that do not exist
  Clock& clock;
};

// Thread-safe. Handlers never block; answers are sent by whichever thread has them.
class ClassifierService final : public v1::Classifier::CallbackService {
 public:
  static constexpr int kMaxBatchImages = 256;

  explicit ClassifierService(const ServiceContext& context) : context_(context) {}

  // New requests are answered with UNAVAILABLE from now on. Open streams answer what they have
  // accepted and end. Returns once all that was accepted is answered, or false at `deadline`.
  bool Drain(TimePoint deadline);

  grpc::ServerUnaryReactor* Classify(grpc::CallbackServerContext* context,
                                     const v1::ClassifyRequest* request,
                                     v1::ClassifyResponse* response) override;
  grpc::ServerUnaryReactor* ClassifyBatch(grpc::CallbackServerContext* context,
                                          const v1::ClassifyBatchRequest* request,
                                          v1::ClassifyBatchResponse* response) override;
  grpc::ServerBidiReactor<v1::ClassifyStreamRequest, v1::ClassifyStreamResponse>* ClassifyStream(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::Model* response) override;

 private:
  friend class ClassifyStreamReactor;
  friend class PhotoReactor;

  // Checks a request and starts its photos, or ends the call at once.
  template <typename Reactor, typename Request, typename Response>
  grpc::ServerUnaryReactor* Begin(const grpc::CallbackServerContext& context,
                                  const Request& request, Response& response);

  // A unary call asks to begin; if it may, it says when it is over.
  absl::Status Enter();
  void Leave();

  const ServiceContext context_;
  Mutex mu_;
  CondVar call_ended_;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  int unary_calls_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_set<ClassifyStreamReactor*> streams_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
