#include "server/classifier_service.h"

#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/classify_request.h"
#include "server/classify_stream.h"
#include "server/grpc_status.h"
#include "server/refused_stream.h"
#include "server/unary_call.h"

namespace dla::server {
namespace {

class ClassifyReactor final : public UnaryCall {
 public:
  explicit ClassifyReactor(const ServiceContext& context) : UnaryCall(context, Method::kClassify) {}

  static absl::Status Check(const v1::ClassifyRequest&) { return absl::OkStatus(); }

  void Start(const Target& target, TimePoint deadline, Pipeline& pipeline,
             const v1::ClassifyRequest& request, v1::ClassifyResponse& response) {
    pipeline.Submit(
        target.model, EncodedPhoto{request.image()},
        {.options = target.options,
         .caller = target.caller,
         .deadline = deadline,
         .cancelled = cancelled_,
         .done = [this, &model = *target.model, &response](absl::StatusOr<Answer> answer) {
           const absl::Status status = answer.status();
           if (answer.ok()) FillResponse(model, *std::move(answer), response);
           End(status);
         }});
  }
};

class ClassifyBatchReactor final : public UnaryCall {
 public:
  explicit ClassifyBatchReactor(const ServiceContext& context)
      : UnaryCall(context, Method::kClassifyBatch) {}

  static absl::Status Check(const v1::ClassifyBatchRequest& request) {
    const int images = request.images_size();
    if (images >= 1 && images <= ClassifierService::kMaxBatchImages) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("images has ", images, " entries; send 1 to ",
                                                   ClassifierService::kMaxBatchImages,
                                                   ", or use ClassifyStream for more"));
  }

  void Start(const Target& target, TimePoint deadline, Pipeline& pipeline,
             const v1::ClassifyBatchRequest& request, v1::ClassifyBatchResponse& response) {
    const int images = request.images_size();
    unanswered_ = images;
    // All results exist before the first answer: adding one may move the array beneath the others.
    for (int i = 0; i < images; ++i) response.add_results();
    for (int i = 0; i < images; ++i) {
      pipeline.Submit(
          target.model, EncodedPhoto{request.images(i)},
          {.options = target.options,
           .caller = target.caller,
           .deadline = deadline,
           .cancelled = cancelled_,
           .done = [this, &model = *target.model,
                    &result = *response.mutable_results(i)](absl::StatusOr<Answer> answer) {
             FillResult(model, std::move(answer), result);
             if (--unanswered_ == 0) End(absl::OkStatus());
           }});
    }
  }

 private:
  std::atomic<int> unanswered_ = 0;
};

}  // namespace

template <typename Reactor, typename Request, typename Response>
grpc::ServerUnaryReactor* ClassifierService::Begin(const grpc::CallbackServerContext& context,
                                                   absl::string_view method, const Request& request,
                                                   Response& response) {
  auto* reactor = new Reactor(context_);
  const absl::StatusOr<Identity> identity = context_.gate.Admit(context, Scope::kInfer, method);
  if (!identity.ok()) {
    reactor->End(identity.status());
    return reactor;
  }
  const absl::StatusOr<Target> target =
      ResolveTarget(context_.registry, request, ClientIdOf(identity->name));
  absl::Status status = target.status();
  if (status.ok()) status = Reactor::Check(request);
  if (status.ok()) {
    status = reactor->Enter(target->model, target->caller, request.ByteSizeLong());
  }
  if (status.ok()) {
    reactor->Start(*target, DeadlineOf(context, context_.clock), context_.pipeline, request,
                   response);
  } else {
    reactor->End(status);
  }
  return reactor;
}

grpc::ServerUnaryReactor* ClassifierService::Classify(grpc::CallbackServerContext* context,
                                                      const v1::ClassifyRequest* request,
                                                      v1::ClassifyResponse* response) {
  return Begin<ClassifyReactor>(*context, __func__, *request, *response);
}

grpc::ServerUnaryReactor* ClassifierService::ClassifyBatch(grpc::CallbackServerContext* context,
                                                           const v1::ClassifyBatchRequest* request,
                                                           v1::ClassifyBatchResponse* response) {
  return Begin<ClassifyBatchReactor>(*context, __func__, *request, *response);
}

grpc::ServerBidiReactor<v1::ClassifyStreamRequest, v1::ClassifyStreamResponse>*
ClassifierService::ClassifyStream(grpc::CallbackServerContext* context) {
  const absl::StatusOr<Identity> identity = context_.gate.Admit(*context, Scope::kInfer, __func__);
  if (!identity.ok()) {
    return new RefusedStream<v1::ClassifyStreamRequest, v1::ClassifyStreamResponse>(
        context_, Method::kClassifyStream, identity.status());
  }
  auto* stream = new ClassifyStreamReactor(context_, ClientIdOf(identity->name),
                                           DeadlineOf(*context, context_.clock));
  stream->Start();
  return stream;
}

grpc::ServerUnaryReactor* ClassifierService::ListModels(grpc::CallbackServerContext* context,
                                                        const v1::ListModelsRequest*,
                                                        v1::ListModelsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto caller = context_.gate.Admit(*context, Scope::kInfer, __func__);
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }
  for (const auto& model : context_.registry.models()) {
    FillModel(*model, /*with_labels=*/false, *response->add_models());
  }
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* ClassifierService::GetModel(grpc::CallbackServerContext* context,
                                                      const v1::GetModelRequest* request,
                                                      v1::Model* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto caller = context_.gate.Admit(*context, Scope::kInfer, __func__);
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }
  absl::StatusOr<std::shared_ptr<ServedModel>> model = context_.registry.Find(request->name());
  if (model.ok()) FillModel(**model, /*with_labels=*/true, *response);
  reactor->Finish(ToGrpcStatus(model.status()));
  return reactor;
}

}  // namespace dla::server
