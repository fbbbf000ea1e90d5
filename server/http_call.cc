#include "server/http_call.h"

#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "server/http_connection.h"
#include "server/http_problem.h"

namespace dla::server {
namespace {

class HttpCallInfo final : public CallInfo {
 public:
  explicit HttpCallInfo(const httplib::Request& request) : request_(request) {}

  absl::InlinedVector<absl::string_view, 1> Values(const std::string& key) const override {
    absl::InlinedVector<absl::string_view, 1> values;
    const auto [first, last] = request_.headers.equal_range(key);
    for (auto each = first; each != last; ++each) values.push_back(each->second);
    return values;
  }
  std::string CertificateName() const override {
    return HttpConnection::Current().certificate_name();
  }
  std::string Host() const override { return request_.remote_addr; }

 private:
  const httplib::Request& request_;
};

}  // namespace

absl::StatusOr<Identity> AdmitHttp(const ServiceContext& context, const httplib::Request& request,
                                   Scope needed, absl::string_view method) {
  if (!context.ready) {
    return absl::UnavailableError("the server is loading its models or shutting down");
  }
  // A page from elsewhere may have a browser send requests here, from inside the user's network.
  if (const std::string origin = request.get_header_value("Origin"); !origin.empty()) {
    const std::string host = request.get_header_value("Host");
    if (origin != absl::StrCat("http://", host) && origin != absl::StrCat("https://", host)) {
      return absl::PermissionDeniedError(
          "this server does not answer to pages of other origins; let a proxy serve both");
    }
  }
  return context.gate.Admit(HttpCallInfo(request), needed, method);
}

HttpCall::HttpCall(const ServiceContext& context, Method method)
    : context_(context), record_(context.unknown_model, method, context.clock) {}

absl::Status HttpCall::Enter(std::shared_ptr<ServedModel> model, const Caller& caller,
                             size_t bytes) {
  record_.SetModel(model);
  DLA_RETURN_IF_ERROR(context_.calls.Enter());
  entry_.calls = &context_.calls;
  DLA_ASSIGN_OR_RETURN(shares_,
                       AdmitRequest(context_.budgets, *model, caller, static_cast<int64_t>(bytes)));
  return absl::OkStatus();
}

void HttpCall::Finish(const absl::Status& status) {
  shares_.Return();  // before the caller may come back
  record_.Finish(status.code());
  finished_.Set(status);
}

absl::Status HttpCall::Wait() {
  bool gave_up = false;
  absl::Status status = finished_.Await(gave_up);
  if (gave_up) cancelled_->store(true, std::memory_order_relaxed);
  return status;
}

absl::StatusOr<size_t> DeclaredBody(const httplib::Request& request, size_t max_bytes) {
  const std::string declared = request.get_header_value("Content-Length");
  uint64_t bytes = 0;
  if (!absl::SimpleAtoi(declared, &bytes)) {
    return HttpError(411, absl::StatusCode::kInvalidArgument,
                     "there is no Content-Length; send one");
  }
  if (bytes <= max_bytes) return bytes;
  return HttpError(413, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("the body has ", bytes, " bytes; at most ", max_bytes,
                                " are taken (--max-message-bytes)"));
}

absl::Status CheckEncoding(const httplib::Request& request) {
  const std::string encoding = request.get_header_value("Content-Encoding");
  if (encoding.empty() || encoding == "identity") return absl::OkStatus();
  return HttpError(415, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("Content-Encoding is ", Quoted(encoding),
                                "; send the body as it is, photos are compressed already"));
}

namespace {

// After a body that the library could not read to its end.
absl::Status BrokenBody(size_t bytes) {
  if (!HttpConnection::Current().cut_off()) {
    return absl::InvalidArgumentError("the body is not what its Content-Type says");
  }
  return HttpError(
      408, absl::StatusCode::kDeadlineExceeded,
      absl::StrCat("the body of ", bytes, " bytes came too slowly or ended too early"));
}

}  // namespace

absl::StatusOr<std::string> ReadBody(const httplib::ContentReader& reader, size_t bytes) {
  HttpConnection::Current().AllowBody(bytes);
  std::string body;
  body.reserve(bytes);
  const bool whole = reader([&body](const char* data, size_t size) {
    body.append(data, size);
    return true;
  });
  if (!whole) return BrokenBody(bytes);
  HttpConnection::Current().SetBodyRead();
  return body;
}

absl::StatusOr<std::vector<FormPart>> ReadForm(const httplib::ContentReader& reader, size_t bytes,
                                               size_t max_parts) {
  HttpConnection::Current().AllowBody(bytes);
  std::vector<FormPart> parts;
  bool too_many = false;
  const bool whole = reader(
      [&](const httplib::MultipartFormData& part) {
        too_many = parts.size() == max_parts;
        if (!too_many) parts.push_back({.field = part.name, .file = part.filename, .bytes = {}});
        return !too_many;
      },
      [&](const char* data, size_t size) {
        parts.back().bytes.append(data, size);
        return true;
      });
  if (too_many) {
    return absl::InvalidArgumentError(
        absl::StrCat("the form has more than ", max_parts, " parts; send several"));
  }
  if (!whole) return BrokenBody(bytes);
  HttpConnection::Current().SetBodyRead();
  return parts;
}

}  // namespace dla::server
