#include "client/json_text.h"

#include <charconv>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/text.h"

namespace dla::client {

std::string JsonString(absl::string_view text) {
  const std::string valid = cli::ValidUtf8(text);
  std::string result = "\"";
  for (size_t i = 0; i < valid.size(); ++i) {
    const auto c = static_cast<unsigned char>(valid[i]);
    const auto next = i + 1 < valid.size() ? static_cast<unsigned char>(valid[i + 1]) : 0u;
    if (c == '"' || c == '\\') {
      result.push_back('\\');
      result.push_back(valid[i]);
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&result, "\\u%04x", c);
    } else if (c == 0xc2 && next < 0xa0) {  // U+0080 .. U+009F
      absl::StrAppendFormat(&result, "\\u%04x", next);
      ++i;
    } else {
      result.push_back(valid[i]);
    }
  }
  result.push_back('"');
  return result;
}

std::string JsonNumber(float value) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

std::string JsonMilliseconds(double value) {
  // Whole microseconds; %g drops trailing zeros.
  return absl::StrFormat("%.15g", std::round(value * 1000) / 1000);
}

JsonObject& JsonObject::Add(absl::string_view key, absl::string_view json_value) {
  absl::StrAppend(&members_, members_.empty() ? "" : ",", JsonString(key), ":", json_value);
  return *this;
}

JsonObject& JsonObject::AddString(absl::string_view key, absl::string_view text) {
  return Add(key, JsonString(text));
}

JsonObject& JsonObject::AddCount(absl::string_view key, uint64_t value) {
  return Add(key, absl::StrCat(value));
}

std::string JsonObject::Text() const { return absl::StrCat("{", members_, "}"); }

}  // namespace dla::client
