// Messages as JSON with their own field names.
#pragma once

#include "google/protobuf/message.h"
#include "server/json.h"

namespace dla::server {

// Every field, in the order of the .proto file, also those at their defaults, but messages and
// oneofs that are not set. Unlike protobuf's own JSON, 64-bit integers are numbers, as clients of
// the Open Inference Protocol have them, and enums are their names. Bytes become base64.
Json ToJson(const google::protobuf::Message& message);

}  // namespace dla::server
