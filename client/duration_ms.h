// The server's times in the unit that people read.
#pragma once

#include <google/protobuf/duration.pb.h>

namespace dla::client {

inline double DurationMs(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e3 +
         static_cast<double>(duration.nanos()) / 1e6;
}

}  // namespace dla::client
