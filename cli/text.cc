#include "cli/text.h"

#include <wchar.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dla::cli {
namespace {

struct CodePoint {
  uint32_t value = 0;
  size_t size = 1;  // bytes
  bool valid = false;
};

// The first code point of non-empty `text`. What is no UTF-8 (overlong forms and surrogates
// included) is one invalid byte.
CodePoint FirstCodePoint(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return {byte(0), 1, true};
  const size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < size) return {byte(0)};
  uint32_t value = byte(0) & (0x7fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {byte(0)};
    value = value << 6 | (byte(i) & 0x3f);
  }
  const uint32_t smallest = size == 4 ? 0x10000 : size == 3 ? 0x800 : 0x80;
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < smallest || value > 0x10ffff || surrogate) return {byte(0)};
  return {value, size, true};
}

bool IsControl(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) ||       // C0, DEL, C1
         c == 0x061c || c == 0x200e || c == 0x200f ||  // direction marks
         (c >= 0x2028 && c <= 0x202e) ||               // separators, embeddings, overrides
         (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;  // isolates, byte order mark
}

int Columns(const CodePoint& c) {
  if (!c.valid || c.value < 0x80) return 1;
  const int width = wcwidth(static_cast<wchar_t>(c.value));
  return width < 0 ? 1 : width;  // not known to this locale
}

}  // namespace

std::string Printable(absl::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const CodePoint c = FirstCodePoint(text);
    if (c.valid && !IsControl(c.value)) {
      absl::StrAppend(&result, text.substr(0, c.size));
    } else if (c.value == '\n' || c.value == '\r' || c.value == '\t') {
      absl::StrAppend(&result, c.value == '\n' ? "\\n" : c.value == '\r' ? "\\r" : "\\t");
    } else {
      const bool byte = c.value < 0x100 && !(c.valid && c.value >= 0x80);
      absl::StrAppend(&result, byte ? absl::StrFormat("\\x%02x", c.value)
                                    : absl::StrFormat("\\u%04x", c.value));
    }
    text.remove_prefix(c.size);
  }
  return result;
}

std::string ValidUtf8(absl::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const CodePoint c = FirstCodePoint(text);
    absl::StrAppend(&result, c.valid ? text.substr(0, c.size) : "\xef\xbf\xbd");
    text.remove_prefix(c.size);
  }
  return result;
}

int DisplayWidth(absl::string_view text) {
  int columns = 0;
  while (!text.empty()) {
    const CodePoint c = FirstCodePoint(text);
    columns += Columns(c);
    text.remove_prefix(c.size);
  }
  return columns;
}

std::string FitColumns(absl::string_view text, int columns, absl::string_view ellipsis) {
  if (DisplayWidth(text) <= columns) return std::string(text);
  const int room = columns - DisplayWidth(ellipsis);
  int used = 0;
  size_t end = 0;
  while (end < text.size()) {
    const CodePoint c = FirstCodePoint(text.substr(end));
    if (used + Columns(c) > room) break;
    used += Columns(c);
    end += c.size;
  }
  const absl::string_view tail = room < 0 ? ellipsis.substr(0, 0) : ellipsis;
  return absl::StrCat(text.substr(0, end), tail);
}

std::string PadColumns(absl::string_view text, int columns) {
  return absl::StrCat(text, std::string(std::max(0, columns - DisplayWidth(text)), ' '));
}

}  // namespace dla::cli
