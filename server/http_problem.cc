#include "server/http_problem.h"

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "httplib.h"
#include "nlohmann/json.hpp"
#include "server/grpc_status.h"

namespace dla::server {
namespace {

constexpr char kHttpStatusUrl[] = "http-status";
constexpr int kClientClosedRequest = 499;  // nginx's, as gRPC's own mapping to HTTP has it

absl::string_view Title(int http_status) {
  switch (http_status) {
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case kClientClosedRequest:
      return "Client Closed Request";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Internal Server Error";
  }
}

nlohmann::ordered_json Problem(int http_status, const absl::Status& status) {
  const std::string detail(status.message());
  return {{"type", "about:blank"},
          {"title", std::string(Title(http_status))},
          {"status", http_status},
          {"detail", detail},
          {"code", absl::StatusCodeToString(status.code())},
          {"error", detail}};
}

// Labels and file names from outside may be no UTF-8.
std::string Text(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// What the library refuses by itself.
absl::Status LibraryError(const httplib::Request& request, int http_status) {
  const auto error = [http_status](absl::StatusCode code, absl::string_view message) {
    return HttpError(http_status, code, message);
  };
  switch (http_status) {
    case 404:
      return error(absl::StatusCode::kNotFound, absl::StrCat("there is nothing at ", request.method,
                                                             " ", request.path.substr(0, 200)));
    case 411:
      return error(absl::StatusCode::kInvalidArgument,
                   "send the body with a Content-Length, in one piece");
    case 413:
      return error(absl::StatusCode::kInvalidArgument, "the body is longer than this path takes");
    case 414:
      return error(absl::StatusCode::kInvalidArgument, "the path is too long");
    case 500:
      return error(absl::StatusCode::kInternal,
                   "the server failed on this request; its log may tell more");
    default:
      return error(absl::StatusCode::kInvalidArgument,
                   "this is no HTTP that the server understands");
  }
}

}  // namespace

int HttpStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kAlreadyExists:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return kClientClosedRequest;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

std::string ProblemJson(int http_status, const absl::Status& status) {
  return Text(Problem(http_status, status));
}

absl::Status HttpError(int http_status, absl::StatusCode code, absl::string_view message) {
  absl::Status status(code, message);
  status.SetPayload(kHttpStatusUrl, absl::Cord(absl::StrCat(http_status)));
  return status;
}

void SetProblem(const absl::Status& status, httplib::Response& response) {
  int http_status = HttpStatusOf(status.code());
  if (const auto better = status.GetPayload(kHttpStatusUrl); better.has_value()) {
    (void)absl::SimpleAtoi(std::string(*better), &http_status);
  }
  nlohmann::ordered_json problem = Problem(http_status, status);
  if (const auto delay = RetryDelayOf(status); delay.has_value()) {
    const auto millis = std::chrono::ceil<std::chrono::milliseconds>(*delay);
    problem["retry_after_ms"] = millis.count();
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*delay);
    response.set_header("Retry-After", std::to_string(seconds.count()));
  } else if (http_status == 503) {
    response.set_header("Retry-After", "1");
  }
  if (http_status == 401) response.set_header("WWW-Authenticate", "Bearer");
  response.status = http_status;
  response.set_content(Text(problem), kProblemType);
}

void FillProblem(const httplib::Request& request, httplib::Response& response) {
  if (!response.body.empty()) return;
  SetProblem(LibraryError(request, response.status), response);
}

}  // namespace dla::server
