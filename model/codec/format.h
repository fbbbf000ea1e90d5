// Tells the format of encoded bytes by their beginning.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace dla::codec {

enum class Format { kJpeg, kPng, kWebp, kOther };

Format DetectFormat(absl::string_view bytes);

// What bytes of Format::kOther look like, for a message to the sender: "a GIF", "HTML",
// "base64 text", "no bytes", "unknown data that begins with 00 01 02 03".
std::string DescribeContent(absl::string_view bytes);

}  // namespace dla::codec
