// Where exceptions of LibTorch end.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dla {

// To be called in a handler: what the exception being handled says. RESOURCE_EXHAUSTED for lack of
// memory, else INTERNAL. `doing` stands in the message: "loading m.safetensors".
absl::Status StatusOfException(absl::string_view doing);

}  // namespace dla
