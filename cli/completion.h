// Completion scripts. Each needs nothing but its shell; where to put them: bash-completion, zsh and
// fish look for a file of the program's name in share/bash-completion/completions,
// share/zsh/site-functions (with "_" in front) and share/fish/vendor_completions.d (with ".fish").
#pragma once

#include <string>

#include "cli/command_docs.h"

namespace dla::cli {

std::string BashCompletion(const CommandDocs& program);
std::string ZshCompletion(const CommandDocs& program);
std::string FishCompletion(const CommandDocs& program);

}  // namespace dla::cli
