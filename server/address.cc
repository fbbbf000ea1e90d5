#include "server/address.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace dla::server {

HostPort SplitAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostPort result{.host = address.substr(0, colon)};
  if (result.host.size() > 2 && result.host.front() == '[' && result.host.back() == ']') {
    result.host = result.host.substr(1, result.host.size() - 2);
  }
  (void)absl::SimpleAtoi(address.substr(colon + 1), &result.port);
  return result;
}

std::string WithPort(const std::string& address, int port) {
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

absl::Status CannotListen(absl::string_view purpose, absl::string_view address,
                          absl::string_view flag) {
  return absl::UnavailableError(absl::StrCat(
      "cannot serve ", purpose, " on ", address,
      ": the port is in use or the host is not this machine's; choose another with ", flag));
}

}  // namespace dla::server
