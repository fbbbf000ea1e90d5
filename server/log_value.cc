#include "server/log_value.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace dla::server {
namespace {

constexpr size_t kMaxBytes = 200;

bool IsPlain(unsigned char c) {
  return absl::ascii_isgraph(c) && c != '"' && c != '\'' && c != '\\' && c != '=';
}

}  // namespace

std::string LogValue(absl::string_view value) {
  const bool cut = value.size() > kMaxBytes;
  const absl::string_view shown = value.substr(0, kMaxBytes);
  const char* more = cut ? "..." : "";
  if (!shown.empty() && std::all_of(shown.begin(), shown.end(), IsPlain)) {
    return absl::StrCat(shown, more);
  }
  return absl::StrCat("\"", absl::CHexEscape(shown), "\"", more);
}

std::string LogLine(absl::string_view line) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string safe;
  safe.reserve(line.size());
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isprint(byte)) {
      safe += c;
    } else if (c == '\n') {
      safe += "\\n";
    } else {
      safe += "\\x";
      safe += kHex[byte >> 4];
      safe += kHex[byte & 15];
    }
  }
  return safe;
}

}  // namespace dla::server
