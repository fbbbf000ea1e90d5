#include "model/json.h"

#include <exception>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "model/quoted.h"

namespace dla {
namespace {

using nlohmann::json;

constexpr size_t kMaxBytes = 64 << 20;
constexpr size_t kMaxDepth = 32;

// Accepts what may become a tree of values. nlohmann's own tree would keep the last of two equal
// keys, and its copying and printing recurse as deep as the text is nested.
class Checker : public nlohmann::json_sax<json> {
 public:
  const std::string& error() const { return error_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    error_ = absl::StrCat("the key ", Quoted(key), " is given twice");
    return false;
  }

  bool parse_error(size_t, const std::string&, const json::exception& error) override {
    error_ = absl::StrCat("not valid JSON: ", JsonErrorText(error));
    return false;
  }

 private:
  bool Open() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxDepth) return true;
    error_ = absl::StrCat("nested deeper than ", kMaxDepth, " levels");
    return false;
  }

  bool Close() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of the objects and (none) arrays that are open
  std::string error_;
};

}  // namespace

std::string JsonErrorText(const json::exception& error) {
  constexpr size_t kMaxLength = 200;  // the parser quotes what it read last, however long
  absl::string_view text = error.what();
  if (const size_t prefix = text.find("] "); prefix != text.npos) text.remove_prefix(prefix + 2);
  const bool cut = text.size() > kMaxLength;
  return absl::StrCat(absl::Utf8SafeCHexEscape(text.substr(0, kMaxLength)), cut ? "..." : "");
}

absl::StatusOr<json> ParseJson(absl::string_view text, absl::string_view name) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": ", text.size(), " bytes of JSON are too many; the limit is ", kMaxBytes));
  }
  if (absl::StrContains(text, '\0')) {  // the parser would stop there and call it the end
    return absl::InvalidArgumentError(absl::StrCat(name, ": not valid JSON: holds a NUL byte"));
  }
  try {
    Checker checker;
    if (!json::sax_parse(text, &checker)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": ", checker.error()));
    }
    return json::parse(text);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", error.what()));
  }
}

}  // namespace dla
