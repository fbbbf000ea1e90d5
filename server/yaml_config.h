// The YAML file that --config names. Its keys are the flags' names, so that both have one table.
#pragma once

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "server/config.h"

namespace dla::server {

// Sets every flag that the file holds and the command line did not, then config.models from the
// file's `models` (each starts from config.defaults). Errors name the file and the line.
absl::Status ApplyYamlFile(const std::string& file, CLI::App& app, ServerConfig& config);

// Registers the flags that each model may override. Defined in config.cc, beside the others.
void AddModelOptions(CLI::App& app, ModelSettings& settings);

}  // namespace dla::server
