#include "server/inference_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/classify_request.h"
#include "server/grpc_status.h"
#include "server/infer_job.h"
#include "server/infer_response.h"
#include "server/infer_stream.h"
#include "server/inference_queries.h"
#include "server/refused_stream.h"
#include "server/unary_call.h"

namespace dla::server {
namespace {

grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerUnaryReactor* Unsupported(grpc::CallbackServerContext* context,
                                      absl::string_view message) {
  return Reply(context, absl::UnimplementedError(message));
}

absl::Status SharedMemoryIsOff() {
  return absl::UnimplementedError(
      "shared memory is off; start the server with --allow-shared-memory true");
}

constexpr absl::string_view kNoCudaMemory =
    "CUDA shared memory is not supported; send tensors in the request";

class InferReactor final : public UnaryCall {
 public:
  InferReactor(const InferenceContext& context, const inference::ModelInferRequest& request,
               inference::ModelInferResponse& response)
      : UnaryCall(context.service, Method::kModelInfer),
        context_(context),
        request_(request),
        response_(response) {}

  // Ends the call at once where the request is wrong.
  void Start(ClientId client, TimePoint deadline) {
    absl::StatusOr<InferTarget> target = ResolveInfer(context_, request_, client, record_);
    absl::Status status = target.status();
    if (status.ok()) status = Enter(target->model, target->caller, target->bytes);
    if (!status.ok()) {
      End(status);
      return;
    }
    task_ = std::move(target->task);
    InferJob::Start(context_.service.pipeline, target->model, task_, target->caller,
                    Sooner(deadline, task_.timeout, context_.service.clock), cancelled_,
                    [this, &model = *target->model](absl::StatusOr<std::vector<Answer>> answers) {
                      response_.set_id(request_.id());
                      End(answers.ok() ? FillInferResponse(model, task_, *answers, response_)
                                       : answers.status());
                    });
  }

 private:
  const InferenceContext& context_;
  const inference::ModelInferRequest& request_;
  inference::ModelInferResponse& response_;
  InferTask task_;
};

}  // namespace

absl::StatusOr<InferTarget> ResolveInfer(const InferenceContext& context,
                                         const inference::ModelInferRequest& request,
                                         ClientId client, RequestRecord& record) {
  auto model =
      FindInferModel(context.service.registry, request.model_name(), request.model_version());
  if (!model.ok()) return model.status();
  record.SetModel(*model);
  absl::StatusOr<InferTask> task =
      ParseInferRequest(request, (*model)->info(), context.max_pixels, context.regions);
  if (!task.ok()) return task.status();
  const Caller caller = {.client = client, .priority = task->priority};
  size_t bytes = request.ByteSizeLong();
  for (const std::string& photo : task->converted) bytes += photo.size();
  return InferTarget{*std::move(model), *std::move(task), caller, bytes};
}

TimePoint Sooner(TimePoint deadline, Duration timeout, Clock& clock) {
  if (timeout == Duration::max()) return deadline;
  return std::min(deadline, clock.Now() + timeout);
}

grpc::ServerUnaryReactor* InferenceService::ServerLive(grpc::CallbackServerContext* context,
                                                       const inference::ServerLiveRequest*,
                                                       inference::ServerLiveResponse* response) {
  response->set_live(true);
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::ServerReady(grpc::CallbackServerContext* context,
                                                        const inference::ServerReadyRequest*,
                                                        inference::ServerReadyResponse* response) {
  response->set_ready(context_.service.ready);
  return Reply(context, absl::OkStatus());
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* InferenceService::AnswerQuery(grpc::CallbackServerContext& context,
                                                        absl::string_view method,
                                                        const Request& request,
                                                        Response& response) {
  absl::Status status = Check(context, Scope::kInfer, method);
  if (status.ok()) status = Tell(context_, request, response);
  return Reply(&context, status);
}

grpc::ServerUnaryReactor* InferenceService::ModelReady(grpc::CallbackServerContext* context,
                                                       const inference::ModelReadyRequest* request,
                                                       inference::ModelReadyResponse* response) {
  return AnswerQuery(*context, __func__, *request, *response);
}

grpc::ServerUnaryReactor* InferenceService::ServerMetadata(
    grpc::CallbackServerContext* context, const inference::ServerMetadataRequest* request,
    inference::ServerMetadataResponse* response) {
  return AnswerQuery(*context, __func__, *request, *response);
}

grpc::ServerUnaryReactor* InferenceService::ModelMetadata(
    grpc::CallbackServerContext* context, const inference::ModelMetadataRequest* request,
    inference::ModelMetadataResponse* response) {
  return AnswerQuery(*context, __func__, *request, *response);
}

grpc::ServerUnaryReactor* InferenceService::ModelConfig(
    grpc::CallbackServerContext* context, const inference::ModelConfigRequest* request,
    inference::ModelConfigResponse* response) {
  return AnswerQuery(*context, __func__, *request, *response);
}

grpc::ServerUnaryReactor* InferenceService::ModelInfer(grpc::CallbackServerContext* context,
                                                       const inference::ModelInferRequest* request,
                                                       inference::ModelInferResponse* response) {
  auto* reactor = new InferReactor(context_, *request, *response);
  const absl::StatusOr<Identity> identity =
      context_.service.gate.Admit(*context, Scope::kInfer, __func__);
  if (!identity.ok()) {
    reactor->End(identity.status());
    return reactor;
  }
  reactor->Start(ClientIdOf(identity->name), DeadlineOf(*context, context_.service.clock));
  return reactor;
}

grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>*
InferenceService::ModelStreamInfer(grpc::CallbackServerContext* context) {
  const absl::StatusOr<Identity> identity =
      context_.service.gate.Admit(*context, Scope::kInfer, __func__);
  if (!identity.ok()) {
    return new RefusedStream<inference::ModelInferRequest, inference::ModelStreamInferResponse>(
        context_.service, Method::kModelStreamInfer, identity.status());
  }
  auto* stream = new InferStream(context_, ClientIdOf(identity->name),
                                 DeadlineOf(*context, context_.service.clock));
  stream->Start();
  return stream;
}

grpc::ServerUnaryReactor* InferenceService::ModelStatistics(
    grpc::CallbackServerContext* context, const inference::ModelStatisticsRequest* request,
    inference::ModelStatisticsResponse* response) {
  return AnswerQuery(*context, __func__, *request, *response);
}

grpc::ServerUnaryReactor* InferenceService::RepositoryIndex(
    grpc::CallbackServerContext* context, const inference::RepositoryIndexRequest* request,
    inference::RepositoryIndexResponse* response) {
  return AnswerQuery(*context, __func__, *request, *response);
}

grpc::ServerUnaryReactor* InferenceService::RepositoryModelLoad(
    grpc::CallbackServerContext* context, const inference::RepositoryModelLoadRequest* request,
    inference::RepositoryModelLoadResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  const absl::StatusOr<std::string> config = LoadConfig(*request);
  if (!config.ok()) return Reply(context, config.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  context_.manager.Load(request->model_name(), *config,
                        [reactor](absl::Status status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::RepositoryModelUnload(
    grpc::CallbackServerContext* context, const inference::RepositoryModelUnloadRequest* request,
    inference::RepositoryModelUnloadResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  if (absl::Status status = CheckUnload(*request); !status.ok()) return Reply(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  context_.manager.Unload(request->model_name(), [reactor](absl::Status status) {
    reactor->Finish(ToGrpcStatus(status));
  });
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::SystemSharedMemoryStatus(
    grpc::CallbackServerContext* context, const inference::SystemSharedMemoryStatusRequest* request,
    inference::SystemSharedMemoryStatusResponse* response) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  if (context_.regions == nullptr) return Reply(context, SharedMemoryIsOff());
  const auto regions = context_.regions->Status(request->name());
  if (!regions.ok()) return Reply(context, regions.status());
  for (const SharedMemoryRegionInfo& region : *regions) {
    auto& message = (*response->mutable_regions())[region.name];
    message.set_name(region.name);
    message.set_key(region.key);
    message.set_offset(region.offset);
    message.set_byte_size(region.byte_size);
  }
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::SystemSharedMemoryRegister(
    grpc::CallbackServerContext* context,
    const inference::SystemSharedMemoryRegisterRequest* request,
    inference::SystemSharedMemoryRegisterResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  if (context_.regions == nullptr) return Reply(context, SharedMemoryIsOff());
  return Reply(context, context_.regions->Register({.name = request->name(),
                                                    .key = request->key(),
                                                    .offset = request->offset(),
                                                    .byte_size = request->byte_size()}));
}

grpc::ServerUnaryReactor* InferenceService::SystemSharedMemoryUnregister(
    grpc::CallbackServerContext* context,
    const inference::SystemSharedMemoryUnregisterRequest* request,
    inference::SystemSharedMemoryUnregisterResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  if (context_.regions == nullptr) return Reply(context, SharedMemoryIsOff());
  context_.regions->Unregister(request->name());
  return Reply(context, absl::OkStatus());
}

// Truthful for any name: there are no regions.
grpc::ServerUnaryReactor* InferenceService::CudaSharedMemoryStatus(
    grpc::CallbackServerContext* context, const inference::CudaSharedMemoryStatusRequest*,
    inference::CudaSharedMemoryStatusResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::CudaSharedMemoryRegister(
    grpc::CallbackServerContext* context, const inference::CudaSharedMemoryRegisterRequest*,
    inference::CudaSharedMemoryRegisterResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  return Unsupported(context, kNoCudaMemory);
}

grpc::ServerUnaryReactor* InferenceService::CudaSharedMemoryUnregister(
    grpc::CallbackServerContext* context, const inference::CudaSharedMemoryUnregisterRequest*,
    inference::CudaSharedMemoryUnregisterResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  return Unsupported(context, kNoCudaMemory);
}

grpc::ServerUnaryReactor* InferenceService::TraceSetting(grpc::CallbackServerContext* context,
                                                         const inference::TraceSettingRequest*,
                                                         inference::TraceSettingResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  return Unsupported(context, "tracing is not supported; /metrics has the times of each stage");
}

grpc::ServerUnaryReactor* InferenceService::LogSettings(grpc::CallbackServerContext* context,
                                                        const inference::LogSettingsRequest*,
                                                        inference::LogSettingsResponse*) {
  if (absl::Status status = Check(*context, Scope::kAdmin, __func__); !status.ok()) {
    return Reply(context, status);
  }
  return Unsupported(context,
                     "the log cannot be changed while the server runs; start it with --log-level");
}

}  // namespace dla::server
