// The file of --config, through the whole table of flags.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "server/config.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("config.yaml", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  FUZZ_CHECK(ftruncate(file, 0) == 0);
  FUZZ_CHECK(pwrite(file, data, size, 0) == static_cast<ssize_t>(size));

  const auto line = dla::server::ParseCommandLine({"--config", path});
  if (!line.ok()) {
    FUZZ_CHECK(line.status().code() == absl::StatusCode::kInvalidArgument);
    FUZZ_CHECK(!line.status().message().empty());
    return 0;
  }
  for (const auto& model : line->config.models) FUZZ_CHECK(!model.folder.empty());
  FUZZ_CHECK(line->config.defaults.queue_capacity >= 1);
  return 0;
}
