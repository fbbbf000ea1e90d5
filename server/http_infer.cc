#include "server/http_infer.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "server/http_call.h"
#include "server/http_completion.h"
#include "server/http_connection.h"
#include "server/http_problem.h"
#include "server/infer_job.h"
#include "server/infer_json.h"
#include "server/infer_response.h"
#include "server/inference_queries.h"
#include "server/proto_json.h"

namespace dla::server {
namespace {

// Triton's name for the length of the JSON in a body with binary data behind it.
constexpr char kJsonLengthHeader[] = "Inference-Header-Content-Length";
constexpr char kJsonType[] = "application/json";
constexpr size_t kMaxControlBytes = 1 << 20;  // of a request that has no photos

// How many bytes of the body are JSON.
absl::StatusOr<size_t> JsonBytes(const httplib::Request& request, size_t body) {
  size_t json = body;
  const std::string header = request.get_header_value(kJsonLengthHeader);
  if (!header.empty() && (!absl::SimpleAtoi(header, &json) || json > body)) {
    return absl::InvalidArgumentError(
        absl::StrCat(kJsonLengthHeader, " is ", Quoted(header), "; the body has ", body, " bytes"));
  }
  if (json <= kMaxJsonBytes) return json;
  return HttpError(413, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("the JSON has ", json, " bytes; at most ", kMaxJsonBytes,
                                " are taken, send the photos as binary data behind it"));
}

// The library would read a form in its own way.
absl::Status CheckNoForm(const httplib::Request& request) {
  if (!request.is_multipart_form_data()) return CheckEncoding(request);
  return HttpError(415, absl::StatusCode::kInvalidArgument,
                   "the Content-Type is that of a form; send JSON");
}

class InferCall final : public HttpCall {
 public:
  InferCall(const InferenceContext& context, size_t max_body_bytes)
      : HttpCall(context.service, Method::kHttpInfer),
        context_(context),
        max_body_bytes_(max_body_bytes) {}

  absl::Status Prepare(const httplib::Request& http, const httplib::ContentReader& reader) {
    DLA_ASSIGN_OR_RETURN(const Identity identity,
                         AdmitHttp(context_.service, http, Scope::kInfer, "HttpInfer"));
    const ClientId client = ClientIdOf(identity.name);
    request_.set_model_name(http.matches[1].str());
    request_.set_model_version(http.matches[2].str());
    DLA_ASSIGN_OR_RETURN(
        const std::shared_ptr<ServedModel> model,
        FindInferModel(context_.service.registry, request_.model_name(), request_.model_version()));
    record().SetModel(model);
    DLA_RETURN_IF_ERROR(CheckNoForm(http));
    DLA_ASSIGN_OR_RETURN(const size_t bytes, DeclaredBody(http, max_body_bytes_));
    DLA_ASSIGN_OR_RETURN(const size_t json_bytes, JsonBytes(http, bytes));
    DLA_RETURN_IF_ERROR(Enter(model, {.client = client}, bytes + kJsonWeight * json_bytes));
    {
      DLA_ASSIGN_OR_RETURN(const std::string body, ReadBody(reader, bytes));
      DLA_ASSIGN_OR_RETURN(format_, ParseInferJson(body, json_bytes, request_));
    }
    DLA_ASSIGN_OR_RETURN(target_, ResolveInfer(context_, request_, client, record()));
    target_.task.typed = false;
    return absl::OkStatus();
  }

  void Submit(const std::shared_ptr<InferCall>& self) {
    const InferTask& task = target_.task;
    InferJob::Start(context_.service.pipeline, target_.model, task, target_.caller,
                    Sooner(TimePoint::max(), task.timeout, context_.service.clock), cancelled(),
                    [self](absl::StatusOr<std::vector<dla::server::Answer>> answers) {
                      self->OnAnswers(std::move(answers));
                    });
  }

  InferJsonBody Answer() const { return WriteInferJson(response_, format_); }

 private:
  void OnAnswers(absl::StatusOr<std::vector<dla::server::Answer>> answers) {
    response_.set_id(request_.id());
    Finish(answers.ok() ? FillInferResponse(*target_.model, target_.task, *answers, response_)
                        : answers.status());
  }

  const InferenceContext& context_;
  const size_t max_body_bytes_;
  inference::ModelInferRequest request_;
  InferJsonFormat format_;
  InferTarget target_;
  inference::ModelInferResponse response_;
};

void Infer(const InferenceContext& context, size_t max_body_bytes, const httplib::Request& request,
           httplib::Response& response, const httplib::ContentReader& reader) {
  const auto call = std::make_shared<InferCall>(context, max_body_bytes);
  const absl::Status status = Serve(call, request, reader);
  if (!status.ok()) return SetProblem(status, response);
  InferJsonBody body = call->Answer();
  const bool binary = body.json_bytes < body.bytes.size();
  if (binary) response.set_header(kJsonLengthHeader, std::to_string(body.json_bytes));
  response.body = std::move(body.bytes);
  response.set_header("Content-Type", binary ? "application/octet-stream" : kJsonType);
}

// What a query that takes a model's name and version, if any, answers.
template <typename Response, typename Request>
absl::StatusOr<Response> Ask(const InferenceContext& context, const httplib::Request& http,
                             const Request& request, absl::string_view method) {
  absl::Status status = AdmitHttp(context.service, http, Scope::kInfer, method).status();
  Response response;
  if (status.ok()) status = Tell(context, request, response);
  if (!status.ok()) return status;
  return response;
}

template <typename Request>
Request ForModel(const httplib::Request& http) {
  Request request;
  request.set_name(http.matches[1].str());
  request.set_version(http.matches[2].str());
  return request;
}

// Answers with a part of the message, or with all of it.
template <typename Message>
void Reply(const absl::StatusOr<Message>& message, httplib::Response& response,
           const char* part = nullptr) {
  if (!message.ok()) return SetProblem(message.status(), response);
  const Json json = ToJson(*message);
  response.set_content(JsonText(part == nullptr ? json : json.at(part)), kJsonType);
}

// The JSON object of a request without photos; an empty body is an empty one.
absl::StatusOr<Json> ReadControl(const httplib::Request& http,
                                 const httplib::ContentReader& reader) {
  DLA_RETURN_IF_ERROR(CheckNoForm(http));
  DLA_ASSIGN_OR_RETURN(const size_t bytes, DeclaredBody(http, kMaxControlBytes));
  DLA_ASSIGN_OR_RETURN(const std::string body, ReadBody(reader, bytes));
  if (body.empty()) return Json::object();
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) return json;
  return absl::InvalidArgumentError("the body is no JSON object");
}

absl::Status Index(const InferenceContext& context, const httplib::Request& http,
                   const httplib::ContentReader& reader, httplib::Response& response) {
  DLA_RETURN_IF_ERROR(
      AdmitHttp(context.service, http, Scope::kInfer, "HttpRepositoryIndex").status());
  DLA_ASSIGN_OR_RETURN(const Json json, ReadControl(http, reader));
  inference::RepositoryIndexRequest request;
  request.set_ready(json.value("ready", Json(false)) == Json(true));
  inference::RepositoryIndexResponse index;
  DLA_RETURN_IF_ERROR(Tell(context, request, index));
  response.set_content(JsonText(ToJson(index).at("models")), kJsonType);
  return absl::OkStatus();
}

// Loads or unloads the model that the path names, and waits until that is done.
absl::Status Control(const InferenceContext& context, const httplib::Request& http,
                     const httplib::ContentReader& reader) {
  const std::string name = http.matches[1].str();
  const bool load = http.matches[2].str() == "load";
  DLA_RETURN_IF_ERROR(AdmitHttp(context.service, http, Scope::kAdmin,
                                load ? "HttpRepositoryModelLoad" : "HttpRepositoryModelUnload")
                          .status());
  DLA_ASSIGN_OR_RETURN(const Json json, ReadControl(http, reader));
  const Json parameters = json.value("parameters", Json::object());
  if (!parameters.is_object()) return absl::InvalidArgumentError("parameters is no object");
  const auto completion = std::make_shared<HttpCompletion>();
  auto done = [completion](absl::Status status) { completion->Set(std::move(status)); };
  if (load) {
    inference::RepositoryModelLoadRequest request;
    request.set_model_name(name);
    for (const auto& [key, value] : parameters.items()) {
      if (!value.is_string()) return absl::InvalidArgumentError(Quoted(key) + " is no string");
      (*request.mutable_parameters())[key].set_string_param(value.get<std::string>());
    }
    DLA_ASSIGN_OR_RETURN(const std::string config, LoadConfig(request));
    context.manager.Load(name, config, done);
  } else {
    inference::RepositoryModelUnloadRequest request;
    request.set_model_name(name);
    for (const auto& [key, value] : parameters.items()) {
      (*request.mutable_parameters())[key].set_string_param(value.dump());
    }
    DLA_RETURN_IF_ERROR(CheckUnload(request));
    context.manager.Unload(name, done);
  }
  bool gave_up = false;
  return completion->Await(gave_up);
}

}  // namespace

void AddInferRoutes(httplib::Server& server, const InferenceContext& context,
                    size_t max_body_bytes) {
  using httplib::ContentReader;
  using httplib::Request;
  using httplib::Response;
  const std::string model = "/v2/models/([^/]+)(?:/versions/([^/]+))?";

  server.Post(model + "/infer", [&context, max_body_bytes](const Request& http, Response& response,
                                                           const ContentReader& reader) {
    Infer(context, max_body_bytes, http, response, reader);
  });
  server.Get("/v2/?", [&context](const Request& http, Response& response) {
    Reply(Ask<inference::ServerMetadataResponse>(context, http, inference::ServerMetadataRequest(),
                                                 "HttpServerMetadata"),
          response);
  });
  server.Get("/v2/models/stats", [&context](const Request& http, Response& response) {
    Reply(Ask<inference::ModelStatisticsResponse>(
              context, http, inference::ModelStatisticsRequest(), "HttpModelStatistics"),
          response);
  });
  server.Get(model, [&context](const Request& http, Response& response) {
    Reply(Ask<inference::ModelMetadataResponse>(
              context, http, ForModel<inference::ModelMetadataRequest>(http), "HttpModelMetadata"),
          response);
  });
  server.Get(model + "/config", [&context](const Request& http, Response& response) {
    Reply(Ask<inference::ModelConfigResponse>(
              context, http, ForModel<inference::ModelConfigRequest>(http), "HttpModelConfig"),
          response, "config");
  });
  server.Get(model + "/stats", [&context](const Request& http, Response& response) {
    Reply(Ask<inference::ModelStatisticsResponse>(context, http,
                                                  ForModel<inference::ModelStatisticsRequest>(http),
                                                  "HttpModelStatistics"),
          response);
  });
  // The status says it, as the protocol has it.
  server.Get(model + "/ready", [&context](const Request& http, Response& response) {
    const auto ready = Ask<inference::ModelReadyResponse>(
        context, http, ForModel<inference::ModelReadyRequest>(http), "HttpModelReady");
    if (!ready.ok()) return SetProblem(ready.status(), response);
    if (ready->ready()) return;
    SetProblem(absl::UnavailableError(
                   absl::StrCat("model ", Quoted(http.matches[1].str()), " is not ready")),
               response);
  });
  server.Post("/v2/repository/index",
              [&context](const Request& http, Response& response, const ContentReader& reader) {
                const absl::Status status = Index(context, http, reader, response);
                if (!status.ok()) SetProblem(status, response);
              });
  server.Post("/v2/repository/models/([^/]+)/(load|unload)",
              [&context](const Request& http, Response& response, const ContentReader& reader) {
                const absl::Status status = Control(context, http, reader);
                if (!status.ok()) SetProblem(status, response);
              });
}

}  // namespace dla::server
