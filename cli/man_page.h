// Manual pages in roff, with the macros of man(7).
#pragma once

#include <string>

#include "cli/command_docs.h"

namespace dla::cli {

// One page of section 1 for the program and all its commands.
std::string ManPage(const CommandDocs& program, const std::string& version);

}  // namespace dla::cli
