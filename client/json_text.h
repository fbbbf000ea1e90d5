// The pieces of JSON (RFC 8259) that the client prints.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace dla::client {

// `text` in quotes. Control characters are escaped (C1 and DEL too, so that a terminal is safe);
// bytes that are no UTF-8 become U+FFFD.
std::string JsonString(absl::string_view text);

// The shortest number that reads back as the same float; null for NaN and infinity.
std::string JsonNumber(float value);

// A number with at most three decimals.
std::string JsonMilliseconds(double value);

// Builds {"a":1,"b":[...]} member by member. Values are JSON already.
class JsonObject {
 public:
  JsonObject& Add(absl::string_view key, absl::string_view json_value);
  JsonObject& AddString(absl::string_view key, absl::string_view text);
  JsonObject& AddCount(absl::string_view key, uint64_t value);
  std::string Text() const;

 private:
  std::string members_;
};

}  // namespace dla::client
