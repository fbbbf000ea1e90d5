#include <clocale>
#include <csignal>

#include "model/memory.h"
#include "quantize/command_line.h"

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");
  // A reader that goes away (`| head`) is noticed by the write that fails.
  std::signal(SIGPIPE, SIG_IGN);
  dla::KeepFreedMemory();
  return dla::quantize::RunCommandLine(argc, argv);
}
