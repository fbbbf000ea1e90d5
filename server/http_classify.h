// Photos by plain HTTP: POST /v1/models/NAME:classify.
#pragma once

#include <cstddef>

#include "server/service_context.h"

namespace httplib {
class Server;
}

namespace dla::server {

// Registers, for as long as the context lives:
//
//   POST /v1/models/NAME:classify   a photo as the body, with its own type or octet-stream, or one
//                                   or many as files of multipart/form-data
//     ?top_k=N                      1 to the number of classes; 5
//     &embedding=true               also the features before the classifier
//     &normalize=true               scaled to L2 length 1
//     &priority=bulk                interactive, bulk
//     &timeout_ms=N                 504 if there is no answer by then
//   GET  /v1/models                 what is served
//   GET  /v1/models/NAME            with labels
//
// An empty NAME is the only or first model, as in dla.v1. A single photo is answered by
// {"model", "model_version", "classes": [{"index", "label", "id", "probability"}], "embedding",
// "timing": {"decode_ms", "queue_ms", "inference_ms", "batch_size"}}, a form by {"results": [...]},
// in the order of the files, each with its "name" and, if it failed, an "error" instead.
void AddClassifyRoutes(httplib::Server& server, const ServiceContext& context,
                       size_t max_body_bytes);

}  // namespace dla::server
