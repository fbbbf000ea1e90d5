#include "server/inference_queries.h"

#include "absl/strings/str_cat.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "server/model_description.h"
#include "server/version.h"

namespace dla::server {
namespace {

constexpr const char* kExtensions[] = {"classification", "model_configuration", "model_repository",
                                       "parameters", "statistics"};

absl::Status UnknownParameter(absl::string_view name, absl::string_view known) {
  return absl::InvalidArgumentError(
      absl::StrCat("parameter ", Quoted(name), " is not supported; there is ", known));
}

}  // namespace

absl::Status CheckModelName(absl::string_view name) {
  if (!name.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("the model's name is empty; ask RepositoryIndex for the names");
}

absl::StatusOr<std::shared_ptr<ServedModel>> FindInferModel(const ModelRegistry& registry,
                                                            const std::string& name,
                                                            const std::string& version) {
  if (absl::Status status = CheckModelName(name); !status.ok()) return status;
  return registry.Find(name, version);
}

absl::Status Tell(const InferenceContext& context, const inference::ModelReadyRequest& request,
                  inference::ModelReadyResponse& response) {
  DLA_RETURN_IF_ERROR(CheckModelName(request.name()));
  const auto model = context.service.registry.Find(request.name(), request.version());
  response.set_ready(context.service.ready && model.ok() && (*model)->health().healthy());
  return absl::OkStatus();
}

absl::Status Tell(const InferenceContext& context, const inference::ServerMetadataRequest&,
                  inference::ServerMetadataResponse& response) {
  response.set_name("dla-serve");
  response.set_version(kVersion);
  for (const char* extension : kExtensions) response.add_extensions(extension);
  if (context.regions != nullptr) response.add_extensions("system_shared_memory");
  return absl::OkStatus();
}

absl::Status Tell(const InferenceContext& context, const inference::ModelMetadataRequest& request,
                  inference::ModelMetadataResponse& response) {
  const ModelRegistry& registry = context.service.registry;
  DLA_ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                       FindInferModel(registry, request.name(), request.version()));
  FillMetadata(*model, response);
  for (const auto& version : registry.Versions(request.name())) {
    response.add_versions(version->version());
  }
  return absl::OkStatus();
}

absl::Status Tell(const InferenceContext& context, const inference::ModelConfigRequest& request,
                  inference::ModelConfigResponse& response) {
  DLA_ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                       FindInferModel(context.service.registry, request.name(), request.version()));
  FillConfig(*model, *response.mutable_config());
  return absl::OkStatus();
}

absl::Status Tell(const InferenceContext& context, const inference::ModelStatisticsRequest& request,
                  inference::ModelStatisticsResponse& response) {
  const ModelRegistry& registry = context.service.registry;
  auto add = [&response](ServedModel& model) {
    inference::ModelStatistics& message = *response.add_model_stats();
    message.set_name(model.name());
    message.set_version(model.version());
    model.statistics().Fill(message);
  };
  if (!request.version().empty()) {
    DLA_ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                         FindInferModel(registry, request.name(), request.version()));
    add(*model);
    return absl::OkStatus();
  }
  // Without a version all of them, without a name all models.
  if (!request.name().empty()) {
    if (auto model = registry.Find(request.name()); !model.ok()) return model.status();
  }
  for (const auto& model : registry.models()) {
    if (!request.name().empty() && request.name() != model->name()) continue;
    for (const auto& version : registry.Versions(model->name())) add(*version);
  }
  return absl::OkStatus();
}

absl::Status Tell(const InferenceContext& context, const inference::RepositoryIndexRequest& request,
                  inference::RepositoryIndexResponse& response) {
  for (const ModelState& model : context.manager.Index()) {
    if (request.ready() && model.state != "READY") continue;
    auto& entry = *response.add_models();
    entry.set_name(model.name);
    entry.set_version(model.version);
    entry.set_state(model.state);
    entry.set_reason(model.reason);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> LoadConfig(const inference::RepositoryModelLoadRequest& request) {
  if (absl::Status status = CheckModelName(request.model_name()); !status.ok()) return status;
  std::string config;
  for (const auto& [name, value] : request.parameters()) {
    if (name != "config") return UnknownParameter(name, "config");
    config = value.string_param();
  }
  return config;
}

absl::Status CheckUnload(const inference::RepositoryModelUnloadRequest& request) {
  DLA_RETURN_IF_ERROR(CheckModelName(request.model_name()));
  for (const auto& [name, value] : request.parameters()) {
    // Clients send it always; no model depends on another.
    if (name != "unload_dependents") return UnknownParameter(name, "unload_dependents");
  }
  return absl::OkStatus();
}

}  // namespace dla::server
