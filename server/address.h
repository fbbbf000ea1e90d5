// HOST:PORT as flags spell it.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dla::server {

struct HostPort {
  std::string host;  // without the brackets of an IPv6 address
  int port = 0;
};

// `address` has passed the check of the flags: HOST:PORT with a numeric port.
HostPort SplitAddress(const std::string& address);

// The same address with the port that was really bound.
std::string WithPort(const std::string& address, int port);

// UNAVAILABLE that tells the operator which flag to change. `purpose` is what would have been
// served.
absl::Status CannotListen(absl::string_view purpose, absl::string_view address,
                          absl::string_view flag);

}  // namespace dla::server
