#include "server/classifier_service.h"

#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/classify_request.h"
#include "server/classify_stream.h"
#include "server/grpc_status.h"
#include "server/request_record.h"

namespace dla::server {
// A unary call that ends when its photos are answered. Deletes itself.
class PhotoReactor : public grpc::ServerUnaryReactor {
 public:
  PhotoReactor(ClassifierService& service, Method method)
      : service_(service),
        record_(service.context_.unknown_model, method, service.context_.clock) {}

  void OnDone() override {
    if (entered_) service_.Leave();
    delete this;
  }
  void OnCancel() override { cancelled_->store(true, std::memory_order_relaxed); }

  absl::Status Enter() {
    absl::Status status = service_.Enter();
    entered_ = status.ok();
    return status;
  }

  // Ends the call. Nothing of the reactor is to be touched afterwards.
  void End(const absl::Status& status) {
    record_.Finish(status.code());
    Finish(ToGrpcStatus(status));
  }

 protected:
  ClassifierService& service_;
  RequestRecord record_;
  const std::shared_ptr<CancelFlag> cancelled_ = std::make_shared<CancelFlag>(false);

 private:
  // OnDone is short and does not block, so gRPC need not wake another thread to run it.
  bool InternalInlineable() override { return true; }

  bool entered_ = false;
};

namespace {

class ClassifyReactor final : public PhotoReactor {
 public:
  explicit ClassifyReactor(ClassifierService& service) : PhotoReactor(service, Method::kClassify) {}

  static absl::Status Check(const v1::ClassifyRequest&) { return absl::OkStatus(); }

  void Start(const Target& target, TimePoint deadline, Pipeline& pipeline,
             const v1::ClassifyRequest& request, v1::ClassifyResponse& response) {
    record_.SetModel(target.model->metrics());
    pipeline.Submit(
        target.model, EncodedPhoto{request.image()},
        {.options = target.options,
         .deadline = deadline,
         .cancelled = cancelled_,
         .done = [this, &model = *target.model, &response](absl::StatusOr<Answer> answer) {
           const absl::Status status = answer.status();
           if (answer.ok()) FillResponse(model, *std::move(answer), response);
           End(status);
         }});
  }
};

class ClassifyBatchReactor final : public PhotoReactor {
 public:
  explicit ClassifyBatchReactor(ClassifierService& service)
      : PhotoReactor(service, Method::kClassifyBatch) {}

  static absl::Status Check(const v1::ClassifyBatchRequest& request) {
    const int images = request.images_size();
    if (images >= 1 && images <= ClassifierService::kMaxBatchImages) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("images has ", images, " entries; send 1 to ",
                                                   ClassifierService::kMaxBatchImages,
                                                   ", or use ClassifyStream for more"));
  }

  void Start(const Target& target, TimePoint deadline, Pipeline& pipeline,
             const v1::ClassifyBatchRequest& request, v1::ClassifyBatchResponse& response) {
    record_.SetModel(target.model->metrics());
    const int images = request.images_size();
    unanswered_ = images;
    // All results exist before the first answer: adding one may move the array beneath the others.
    for (int i = 0; i < images; ++i) response.add_results();
    for (int i = 0; i < images; ++i) {
      pipeline.Submit(
          target.model, EncodedPhoto{request.images(i)},
          {.options = target.options,
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

absl::Status ClassifierService::Enter() {
  MutexLock lock(mu_);
  if (draining_) {
    return absl::UnavailableError("the server is shutting down; ask another one");
  }
  ++unary_calls_;
  return absl::OkStatus();
}

void ClassifierService::Leave() {
  MutexLock lock(mu_);
  --unary_calls_;
  // Under the lock: once Drain sees the last call gone, this object may be destroyed.
  call_ended_.NotifyAll();
}

bool ClassifierService::Drain(TimePoint deadline) {
  MutexLock lock(mu_);
  draining_ = true;
  for (ClassifyStreamReactor* stream : streams_) stream->Drain();
  while (unary_calls_ > 0 || !streams_.empty()) {
    if (context_.clock.Now() >= deadline) return false;
    context_.clock.WaitUntil(call_ended_, mu_, deadline);
  }
  return true;
}

template <typename Reactor, typename Request, typename Response>
grpc::ServerUnaryReactor* ClassifierService::Begin(const grpc::CallbackServerContext& context,
                                                   const Request& request, Response& response) {
  auto* reactor = new Reactor(*this);
  const absl::StatusOr<Target> target = ResolveTarget(context_.registry, request);
  absl::Status status = target.status();
  if (status.ok()) status = Reactor::Check(request);
  if (status.ok()) status = reactor->Enter();
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
  return Begin<ClassifyReactor>(*context, *request, *response);
}

grpc::ServerUnaryReactor* ClassifierService::ClassifyBatch(grpc::CallbackServerContext* context,
                                                           const v1::ClassifyBatchRequest* request,
                                                           v1::ClassifyBatchResponse* response) {
  return Begin<ClassifyBatchReactor>(*context, *request, *response);
}

grpc::ServerBidiReactor<v1::ClassifyStreamRequest, v1::ClassifyStreamResponse>*
ClassifierService::ClassifyStream(grpc::CallbackServerContext* context) {
  auto* stream = new ClassifyStreamReactor(*this, DeadlineOf(*context, context_.clock));
  bool draining;
  {
    MutexLock lock(mu_);
    streams_.insert(stream);
    draining = draining_;
  }
  if (draining) {
    stream->Drain();
  } else {
    stream->Start();
  }
  return stream;
}

grpc::ServerUnaryReactor* ClassifierService::ListModels(grpc::CallbackServerContext* context,
                                                        const v1::ListModelsRequest*,
                                                        v1::ListModelsResponse* response) {
  for (const auto& model : context_.registry.models()) {
    FillModel(*model, /*with_labels=*/false, *response->add_models());
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* ClassifierService::GetModel(grpc::CallbackServerContext* context,
                                                      const v1::GetModelRequest* request,
                                                      v1::Model* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<std::shared_ptr<ServedModel>> model = context_.registry.Find(request->name());
  if (model.ok()) FillModel(**model, /*with_labels=*/true, *response);
  reactor->Finish(ToGrpcStatus(model.status()));
  return reactor;
}

}  // namespace dla::server
