// Reads files of a model folder that are small enough to hold in memory.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dla {

// All bytes of the file, of which there may be `most`; nothing is allocated before that is known.
// NOT_FOUND, whose message ends with `remedy`; INVALID_ARGUMENT for what is no file or too large;
// PERMISSION_DENIED.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, uintmax_t most,
                                          absl::string_view remedy);

}  // namespace dla
