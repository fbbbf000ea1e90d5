// What every harness of this folder asks of the code under it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// Ends the process, which libFuzzer counts as a crash.
#define FUZZ_CHECK(condition)                                                      \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

namespace dla::fuzz {

inline absl::string_view AsText(const uint8_t* data, size_t size) {
  return absl::string_view(reinterpret_cast<const char*>(data), size);
}

// A refusal is told in one line or a few, whatever came.
inline void CheckRefusal(const absl::Status& status, absl::StatusCode code) {
  FUZZ_CHECK(status.code() == code);
  FUZZ_CHECK(!status.message().empty());
  FUZZ_CHECK(status.message().size() < 4096);
}

}  // namespace dla::fuzz
