// Reads JSON files that nobody vouches for.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dla {

// `name` stands in errors. INVALID_ARGUMENT for text that is over 64 MiB, not JSON, nested deeper
// than 32 levels, or gives a key twice in one object. Throws nothing.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view name);

// What nlohmann's parser says, without its own prefix.
std::string JsonErrorText(const nlohmann::json::exception& error);

}  // namespace dla
