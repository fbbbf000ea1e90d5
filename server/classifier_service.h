// dla.v1.Classifier on gRPC's callback API.
#pragma once

#include "dla/v1/classifier.grpc.pb.h"
#include "server/service_context.h"

namespace dla::server {

// Thread-safe. Handlers never block; answers are sent by whichever thread has them.
class ClassifierService final : public v1::Classifier::CallbackService {
 public:
  static constexpr int kMaxBatchImages = 256;

  explicit ClassifierService(const ServiceContext& context) : context_(context) {}

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
  // Checks the caller and the request and starts its photos, or ends the call at once.
  template <typename Reactor, typename Request, typename Response>
  grpc::ServerUnaryReactor* Begin(const grpc::CallbackServerContext& context,
                                  absl::string_view method, const Request& request,
                                  Response& response);

  const ServiceContext context_;
};

}  // namespace dla::server
