// Text from outside, made fit for a log line of key=value fields.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace dla::server {

// `value` as it is where it could not be mistaken for anything else, else in double quotes, with
// quotes, backslashes and all that is not printable ASCII escaped as in C. Cut after 200 bytes.
std::string LogValue(absl::string_view value);

// A whole line with every byte that is not printable ASCII escaped, so that no line can be forged
// and no terminal be told anything. What every line goes through last; it leaves spaces and quotes.
std::string LogLine(absl::string_view line);

}  // namespace dla::server
