// `--generate man|bash|zsh|fish`, the same for every program.
#pragma once

#include <string>

#include "CLI/CLI.hpp"

namespace dla::cli {

// Adds the option; `wanted` is empty unless it is given.
void AddGenerateOption(CLI::App& app, std::string& wanted);

// The manual page, in roff, or the completion script that `wanted` names, of all that `app` offers.
std::string Generate(const CLI::App& app, const std::string& wanted, const std::string& version);

}  // namespace dla::cli
