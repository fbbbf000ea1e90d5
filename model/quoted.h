// Text out of a file that nobody vouches for, made fit for an error message.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace dla {

// `text` in double quotes. Long text is cut after 120 bytes; what is not printable ASCII is escaped
// as in C.
std::string Quoted(absl::string_view text);

}  // namespace dla
