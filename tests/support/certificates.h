// Certificates for tests of TLS, made on the spot.
#pragma once

#include <memory>
#include <string>

namespace dla::testing {

// PEM.
struct CertificateAndKey {
  std::string certificate;
  std::string key;
};

// Signs certificates. P-256 throughout.
class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name);
  ~CertificateAuthority();

  // PEM.
  const std::string& certificate() const { return certificate_; }

  // For localhost and 127.0.0.1, good from yesterday for so many days from now.
  CertificateAndKey Issue(const std::string& common_name, int days = 1) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
  std::string certificate_;
};

}  // namespace dla::testing
