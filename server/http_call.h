// One HTTP request that has photos classified: through the same gate, budgets and queues as a call
// of gRPC.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "httplib.h"
#include "server/admission.h"
#include "server/gatekeeper.h"
#include "server/http_completion.h"
#include "server/photo.h"
#include "server/request_record.h"
#include "server/service_context.h"

namespace dla::server {

// Who calls, and whether they may; for requests without photos, too. UNAVAILABLE before all models
// are loaded and from the beginning of a shutdown on; PERMISSION_DENIED for a browser that acts for
// a page of another origin; else as Gatekeeper::Admit.
absl::StatusOr<Identity> AdmitHttp(const ServiceContext& context, const httplib::Request& request,
                                   Scope needed, absl::string_view method);

// What of a request its photos need until the last of them is answered, which may be after the
// handler has given up: derive from this what they point to. Made by the handler's thread, shared
// with the callbacks of the photos.
class HttpCall {
 public:
  HttpCall(const ServiceContext& context, Method method);
  virtual ~HttpCall() = default;

  HttpCall(const HttpCall&) = delete;
  HttpCall& operator=(const HttpCall&) = delete;

  // Asks for `model` to take a request whose message has so many bytes.
  absl::Status Enter(std::shared_ptr<ServedModel> model, const Caller& caller, size_t bytes);

  // Counts the request and wakes the handler. Called once, by whoever has the last answer.
  void Finish(const absl::Status& status);

  // By the handler's thread, once photos are on their way: waits for Finish and returns its status.
  // CANCELLED if the caller hangs up before, UNAVAILABLE if the server ends all requests; photos
  // are cancelled then.
  absl::Status Wait();

  const std::shared_ptr<CancelFlag>& cancelled() const { return cancelled_; }
  RequestRecord& record() { return record_; }

 private:
  // The last to go: a shutdown waits for it.
  struct Entry {
    CallTracker* calls = nullptr;
    ~Entry() {
      if (calls != nullptr) calls->Leave();
    }
  };

  Entry entry_;
  const ServiceContext& context_;
  RequestRecord record_;
  const std::shared_ptr<CancelFlag> cancelled_ = std::make_shared<CancelFlag>(false);
  Shares shares_;  // of budgets of the model that record_ holds
  HttpCompletion finished_;
};

// Derived calls have
//   absl::Status Prepare(request, reader)       all that may be refused, up to reading the body
//   void Submit(const std::shared_ptr<Call>&)   sends its photos on their way, which ends in Finish
template <typename Call>
absl::Status Serve(const std::shared_ptr<Call>& call, const httplib::Request& request,
                   const httplib::ContentReader& reader) {
  absl::Status status = call->Prepare(request, reader);
  if (status.ok()) {
    call->Submit(call);
    return call->Wait();
  }
  call->Finish(status);
  return status;
}

// The errors of the following are HttpErrors where HTTP has a status for them.

// The length that the request declares for its body, at most `max_bytes`. Refused before any of it
// is read: INVALID_ARGUMENT, 413 or 411.
absl::StatusOr<size_t> DeclaredBody(const httplib::Request& request, size_t max_bytes);

// Refuses compressed bodies. INVALID_ARGUMENT, 415.
absl::Status CheckEncoding(const httplib::Request& request);

// Reads all of a body that was admitted. INVALID_ARGUMENT; DEADLINE_EXCEEDED, 408, if it comes too
// slowly or ends too early.
absl::StatusOr<std::string> ReadBody(const httplib::ContentReader& reader, size_t bytes);

// A file of a form, or one of its fields.
struct FormPart {
  std::string field;
  std::string file;  // empty if the part has no file's name
  std::string bytes;
};

// The same for a body that is multipart/form-data, of at most `max_parts`.
absl::StatusOr<std::vector<FormPart>> ReadForm(const httplib::ContentReader& reader, size_t bytes,
                                               size_t max_parts);

}  // namespace dla::server
