// The server's certificate, its key, and who may sign callers' certificates.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace dla::server {

struct TlsPaths {
  std::string certificate;  // PEM, the server's own first, then those that lead to the root
  std::string key;          // PEM, not encrypted
  std::string client_ca;    // PEM; empty: callers need no certificate
};

// Their contents.
struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string client_ca;

  bool operator==(const TlsFiles&) const = default;
};

// Reads the files and checks that they are certificates, that the key is the certificate's, and
// that it has not expired. Errors name the file and the flag, and nothing of what is in the file.
absl::StatusOr<TlsFiles> ReadTlsFiles(const TlsPaths& paths);

}  // namespace dla::server
