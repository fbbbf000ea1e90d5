#include <clocale>
#include <csignal>
#include <cstdlib>

#include "client/command_line.h"

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");
  // A reader that goes away (`| head`) is noticed by the write that fails.
  std::signal(SIGPIPE, SIG_IGN);
  // gRPC's own log lines would break into the output; what matters is told as an error.
  setenv("GRPC_VERBOSITY", "NONE", 0);
  return dla::client::RunCommandLine(argc, argv);
}
