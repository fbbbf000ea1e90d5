// Errors as HTTP tells them: problem+json of RFC 9457.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace httplib {
struct Request;
struct Response;
}  // namespace httplib

namespace dla::server {

inline constexpr char kProblemType[] = "application/problem+json";

// The status that HTTP has for a gRPC code: 400 for INVALID_ARGUMENT, 429 for RESOURCE_EXHAUSTED,
// 499 for CANCELLED, and so on.
int HttpStatusOf(absl::StatusCode code);

// {"type", "title", "status", "detail", "code"} on one line, where "code" is gRPC's name of the
// error and "error", which clients of the Open Inference Protocol read, is the detail again.
std::string ProblemJson(int http_status, const absl::Status& status);

// Answers with the error. RetryInfo becomes Retry-After, in whole seconds, and "retry_after_ms"; an
// error of authentication asks for a token.
void SetProblem(const absl::Status& status, httplib::Response& response);

// The same with another of HTTP's statuses, for what gRPC has no code of its own for.
void SetProblem(int http_status, const absl::Status& status, httplib::Response& response);

// For a response that has a status of 400 or more and no body.
void FillProblem(const httplib::Request& request, httplib::Response& response);

}  // namespace dla::server
