// How the process writes its log.
#pragma once

#include <string>

namespace dla::server {

// From now on spdlog's default logger writes lines "TIME LEVEL MESSAGE" to standard error, as
// LogLine escapes them, and gRPC logs through it at level debug. `level` is debug, info, warn or
// error. To be called once, before threads start.
void SetUpLogging(const std::string& program, const std::string& level);

}  // namespace dla::server
