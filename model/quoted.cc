#include "model/quoted.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace dla {
namespace {

constexpr size_t kMaxBytes = 120;

}  // namespace

std::string Quoted(absl::string_view text) {
  const bool cut = text.size() > kMaxBytes;
  const absl::string_view shown = text.substr(0, kMaxBytes);
  const bool plain = std::all_of(shown.begin(), shown.end(), absl::ascii_isprint);
  return absl::StrCat("\"", plain ? std::string(shown) : absl::CHexEscape(shown), "\"",
                      cut ? "..." : "");
}

}  // namespace dla
