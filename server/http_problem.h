// Errors as HTTP tells them: problem+json of RFC 9457.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace httplib {
struct Request;
struct Response;
}  // namespace httplib

namespace dla::server {

inline constexpr char kProblemType[] = "application/problem+json";

// An error for which HTTP has a better status than for its code, such as 413.
absl::Status HttpError(int http_status, absl::StatusCode code, absl::string_view message);

// The status that HTTP has for a gRPC code: 400 for INVALID_ARGUMENT, 429 for RESOURCE_EXHAUSTED,
// 499 for CANCELLED, and so on.
int HttpStatusOf(absl::StatusCode code);

// {"type", "title", "status", "detail", "code"} on one line, where "code" is gRPC's name of the
// error and "error", which clients of the Open Inference Protocol read, is the detail again.
std::string ProblemJson(int http_status, const absl::Status& status);

// Answers with the error, by the status of HttpError or that of its code. RetryInfo becomes
// Retry-After, in whole seconds, and "retry_after_ms"; an error of authentication asks for a token.
void SetProblem(const absl::Status& status, httplib::Response& response);

// For a response that has a status of 400 or more and no body.
void FillProblem(const httplib::Request& request, httplib::Response& response);

}  // namespace dla::server
