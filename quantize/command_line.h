// The command line of dla-quantize. Its help texts are the documentation.
#pragma once

#include "quantize/quantize_command.h"

namespace dla::quantize {

// Does what the arguments ask for. Usage errors are told on standard error in one line.
ExitCode RunCommandLine(int argc, const char* const* argv);

}  // namespace dla::quantize
