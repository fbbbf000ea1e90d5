// The decoder that --decoder asks for.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "model/gpu/runtime.h"
#include "server/config.h"
#include "server/pipeline.h"

namespace dla::server {

// `find_runtime` is called only where a card may decode. Logs what was measured and why it chose
// what it chose. FAILED_PRECONDITION: --decoder nvjpeg, and it cannot be used; says why.
// `threads`: that decode. prepare_thread: called first by each thread of a trial; may be empty.
absl::StatusOr<DecodeFunction> SetUpDecoder(
    const ServerConfig& config, int threads, const std::function<void()>& prepare_thread,
    const std::function<absl::StatusOr<gpu::Runtime*>()>& find_runtime, Clock& clock);

}  // namespace dla::server
