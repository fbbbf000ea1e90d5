// The JSON that the server speaks over HTTP.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace dla::server {

// Keeps the order of keys, and writes floats with as few digits as tell them apart.
using Json = nlohmann::basic_json<nlohmann::ordered_map, std::vector, std::string, bool, int64_t,
                                  uint64_t, float>;

// On one line. What is no UTF-8, such as a label or a file name from outside, is replaced.
inline std::string JsonText(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace dla::server
