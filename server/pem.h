// Certificates and keys in PEM format.
#pragma once

#include <string>
#include <vector>

#include "server/openssl_ptr.h"

namespace dla::server {

// All certificates of `pem`; empty if there is none, or one is broken.
std::vector<X509Ptr> ReadPemCertificates(const std::string& pem);

// Null if there is no private key, or one with a pass phrase, which is never asked for.
KeyPtr ReadPemKey(const std::string& pem);

}  // namespace dla::server
