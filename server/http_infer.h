// The Open Inference Protocol over HTTP (KServe v2 REST), with Triton's extensions: binary data,
// statistics, model configuration, model repository.
#pragma once

#include <cstddef>

#include "server/inference_service.h"

namespace httplib {
class Server;
}

namespace dla::server {

// Registers, for as long as the context lives:
//
//   GET  /v2                                                what the server is
//   GET  /v2/models/NAME[/versions/V][/ready|/config|/stats]
//   GET  /v2/models/stats
//   POST /v2/models/NAME[/versions/V]/infer
//   POST /v2/repository/index
//   POST /v2/repository/models/NAME/load and unload         with the scope admin
//
// Health is in http_routes.h.
void AddInferRoutes(httplib::Server& server, const InferenceContext& context,
                    size_t max_body_bytes);

}  // namespace dla::server
