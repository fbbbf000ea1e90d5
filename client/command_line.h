// The command line: which commands and options there are. Their help texts are the documentation.
#pragma once

#include "client/photo_run.h"

namespace dla::client {

// Does what the arguments ask for. Usage errors are told on standard error in one line.
ExitCode RunCommandLine(int argc, const char* const* argv);

}  // namespace dla::client
