#include "server/http_classify.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "server/classify_request.h"
#include "server/http_call.h"
#include "server/http_problem.h"
#include "server/json.h"
#include "server/proto_json.h"

namespace dla::server {
namespace {

constexpr size_t kMaxFormPhotos = 256;
constexpr char kJsonType[] = "application/json";

// What the query asks for, in the words of dla.v1.
struct Query {
  v1::ClassifyRequest options;
  Duration timeout = Duration::max();
};

absl::StatusOr<bool> ParseBool(const std::string& name, const std::string& value) {
  if (value.empty() || value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", Quoted(value), "; it is true or false"));
}

absl::StatusOr<uint32_t> ParseNumber(const std::string& name, const std::string& value) {
  uint32_t number = 0;
  if (absl::SimpleAtoi(value, &number)) return number;
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", Quoted(value), ", which is no whole number from 0 on"));
}

absl::StatusOr<Query> ParseQuery(const httplib::Request& request) {
  Query query;
  v1::ClassifyRequest& options = query.options;
  options.set_model(request.matches[1].str());
  for (const auto& [name, value] : request.params) {
    if (name == "top_k") {
      DLA_ASSIGN_OR_RETURN(const uint32_t top_k, ParseNumber(name, value));
      options.set_top_k(top_k);
    } else if (name == "embedding") {
      DLA_ASSIGN_OR_RETURN(const bool embedding, ParseBool(name, value));
      options.set_include_embedding(embedding);
    } else if (name == "normalize") {
      DLA_ASSIGN_OR_RETURN(const bool normalize, ParseBool(name, value));
      options.set_normalize_embedding(normalize);
    } else if (name == "priority") {
      if (value != "bulk" && value != "interactive") {
        return absl::InvalidArgumentError(
            absl::StrCat("priority is ", Quoted(value), "; it is interactive or bulk"));
      }
      options.set_priority(value == "bulk" ? v1::PRIORITY_BULK : v1::PRIORITY_INTERACTIVE);
    } else if (name == "timeout_ms") {
      DLA_ASSIGN_OR_RETURN(const uint32_t timeout, ParseNumber(name, value));
      query.timeout = std::chrono::milliseconds(timeout);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no parameter ", Quoted(name),
                       "; there are top_k, embedding, normalize, priority and timeout_ms"));
    }
  }
  return query;
}

// "image/jpeg; a=b" to "image/jpeg".
std::string MediaType(const httplib::Request& request) {
  const std::string type = request.get_header_value("Content-Type");
  return std::string(absl::StripAsciiWhitespace(
      absl::string_view(type).substr(0, std::min(type.find(';'), type.size()))));
}

absl::Status CheckType(const httplib::Request& request) {
  const std::string type = MediaType(request);
  if (type.empty() || absl::StartsWithIgnoreCase(type, "image/") ||
      absl::EqualsIgnoreCase(type, "application/octet-stream") ||
      request.is_multipart_form_data()) {
    return absl::OkStatus();
  }
  return HttpError(415, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("Content-Type is ", Quoted(type),
                                "; send image/jpeg, image/png, image/webp, "
                                "application/octet-stream or multipart/form-data"));
}

double Milliseconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e3 + duration.nanos() / 1e6;
}

Json ResponseJson(const v1::ClassifyResponse& response, bool with_embedding) {
  Json json = {{"model", response.model()},
               {"model_version", response.model_version()},
               {"classes", Json::array()}};
  for (const v1::Class& each : response.classes()) json["classes"].push_back(ToJson(each));
  if (with_embedding) {
    json["embedding"] =
        std::vector<float>(response.embedding().begin(), response.embedding().end());
  }
  const v1::Timing& timing = response.timing();
  json["timing"] = {{"decode_ms", Milliseconds(timing.decode())},
                    {"queue_ms", Milliseconds(timing.queue())},
                    {"inference_ms", Milliseconds(timing.inference())},
                    {"batch_size", timing.batch_size()}};
  return json;
}

class ClassifyCall final : public HttpCall {
 public:
  ClassifyCall(const ServiceContext& context, size_t max_body_bytes)
      : HttpCall(context, Method::kHttpClassify),
        context_(context),
        max_body_bytes_(max_body_bytes) {}

  absl::Status Prepare(const httplib::Request& request, const httplib::ContentReader& reader) {
    DLA_ASSIGN_OR_RETURN(const Identity identity,
                         AdmitHttp(context_, request, Scope::kInfer, "HttpClassify"));
    DLA_ASSIGN_OR_RETURN(const Query query, ParseQuery(request));
    DLA_ASSIGN_OR_RETURN(
        target_, ResolveTarget(context_.registry, query.options, ClientIdOf(identity.name)));
    record().SetModel(target_.model);
    DLA_RETURN_IF_ERROR(CheckEncoding(request));
    DLA_RETURN_IF_ERROR(CheckType(request));
    DLA_ASSIGN_OR_RETURN(const size_t bytes, DeclaredBody(request, max_body_bytes_));
    DLA_RETURN_IF_ERROR(Enter(target_.model, target_.caller, bytes));
    DLA_RETURN_IF_ERROR(ReadPhotos(request, reader, bytes));
    if (query.timeout != Duration::max()) deadline_ = context_.clock.Now() + query.timeout;
    return absl::OkStatus();
  }

  void Submit(const std::shared_ptr<ClassifyCall>& self) {
    const int photos = static_cast<int>(photos_.size());
    unanswered_ = photos;
    // All results exist before the first answer: adding one may move the array beneath the others.
    for (int i = 0; i < photos; ++i) response_.add_results();
    for (int i = 0; i < photos; ++i) {
      context_.pipeline.Submit(target_.model, EncodedPhoto{photos_[i]},
                               {.options = target_.options,
                                .caller = target_.caller,
                                .deadline = deadline_,
                                .cancelled = cancelled(),
                                .done = [self, i](absl::StatusOr<dla::server::Answer> answer) {
                                  self->OnAnswer(i, std::move(answer));
                                }});
    }
  }

  Json Answer() const {
    const bool embedding = target_.options.include_embedding;
    if (!form_) return ResponseJson(response_.results(0).response(), embedding);
    Json results = Json::array();
    for (int i = 0; i < response_.results_size(); ++i) {
      const v1::ClassifyResult& result = response_.results(i);
      Json json = {{"name", names_[i]}};
      if (result.has_error()) {
        const auto code = static_cast<absl::StatusCode>(result.error().code());
        json["error"] = {{"status", HttpStatusOf(code)},
                         {"code", absl::StatusCodeToString(code)},
                         {"detail", result.error().message()}};
      } else {
        json.update(ResponseJson(result.response(), embedding));
      }
      results.push_back(std::move(json));
    }
    return {{"results", std::move(results)}};
  }

 private:
  absl::Status ReadPhotos(const httplib::Request& request, const httplib::ContentReader& reader,
                          size_t bytes) {
    form_ = request.is_multipart_form_data();
    if (!form_) {
      DLA_ASSIGN_OR_RETURN(std::string photo, ReadBody(reader, bytes));
      photos_.push_back(std::move(photo));
      return absl::OkStatus();
    }
    DLA_ASSIGN_OR_RETURN(std::vector<FormPart> parts, ReadForm(reader, bytes, kMaxFormPhotos));
    for (FormPart& part : parts) {
      if (part.file.empty() && part.field != "image") {
        return absl::InvalidArgumentError(
            absl::StrCat("the form's field ", Quoted(part.field),
                         " is no file; options go into the query, such as ?top_k=3"));
      }
      names_.push_back(part.file.empty() ? part.field : std::move(part.file));
      photos_.push_back(std::move(part.bytes));
    }
    if (photos_.empty()) return absl::InvalidArgumentError("the form has no file; attach a photo");
    return absl::OkStatus();
  }

  void OnAnswer(int photo, absl::StatusOr<dla::server::Answer> answer) {
    // Of a form each photo succeeds or fails for itself.
    const absl::Status status = form_ ? absl::OkStatus() : answer.status();
    FillResult(*target_.model, std::move(answer), *response_.mutable_results(photo));
    if (--unanswered_ == 0) Finish(status);
  }

  const ServiceContext& context_;
  const size_t max_body_bytes_;
  Target target_;
  TimePoint deadline_ = TimePoint::max();
  bool form_ = false;
  std::vector<std::string> names_;
  std::vector<std::string> photos_;
  v1::ClassifyBatchResponse response_;
  std::atomic<int> unanswered_ = 0;
};

// Requests that ask for what the registry knows.
template <typename Message>
void AnswerQuery(const absl::StatusOr<Message>& message, httplib::Response& response) {
  if (message.ok()) {
    response.set_content(JsonText(ToJson(*message)), kJsonType);
  } else {
    SetProblem(message.status(), response);
  }
}

absl::StatusOr<v1::ListModelsResponse> ListModels(const ServiceContext& context,
                                                  const httplib::Request& request) {
  absl::Status status = AdmitHttp(context, request, Scope::kInfer, "HttpListModels").status();
  if (!status.ok()) return status;
  v1::ListModelsResponse models;
  for (const auto& model : context.registry.models()) {
    FillModel(*model, /*with_labels=*/false, *models.add_models());
  }
  return models;
}

absl::StatusOr<v1::Model> GetModel(const ServiceContext& context, const httplib::Request& request) {
  absl::Status status = AdmitHttp(context, request, Scope::kInfer, "HttpGetModel").status();
  if (!status.ok()) return status;
  DLA_ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                       context.registry.Find(request.matches[1].str()));
  v1::Model message;
  FillModel(*model, /*with_labels=*/true, message);
  return message;
}

}  // namespace

void AddClassifyRoutes(httplib::Server& server, const ServiceContext& context,
                       size_t max_body_bytes) {
  server.Post(
      R"(/v1/models/([^/:]*):classify)",
      [&context, max_body_bytes](const httplib::Request& request, httplib::Response& response,
                                 const httplib::ContentReader& reader) {
        const auto call = std::make_shared<ClassifyCall>(context, max_body_bytes);
        const absl::Status status = Serve(call, request, reader);
        if (!status.ok()) return SetProblem(status, response);
        response.set_content(JsonText(call->Answer()), kJsonType);
      });
  server.Get(
      R"(/v1/models/([^/:]*):classify)", [](const httplib::Request&, httplib::Response& response) {
        response.set_header("Allow", "POST");
        SetProblem(HttpError(405, absl::StatusCode::kInvalidArgument, "send the photo with POST"),
                   response);
      });
  server.Get("/v1/models",
             [&context](const httplib::Request& request, httplib::Response& response) {
               AnswerQuery(ListModels(context, request), response);
             });
  server.Get(R"(/v1/models/([^/:]+))",
             [&context](const httplib::Request& request, httplib::Response& response) {
               AnswerQuery(GetModel(context, request), response);
             });
}

}  // namespace dla::server
