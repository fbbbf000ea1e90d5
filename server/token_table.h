// Bearer tokens that callers may show, known by their SHA-256 alone.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dla::server {

// What a call needs. admin includes infer.
enum class Scope { kInfer, kAdmin };
absl::string_view ToString(Scope scope);

// Immutable once made.
class TokenTable {
 public:
  static constexpr size_t kMaxFileBytes = 1 << 20;

  struct Entry {
    std::string name;  // at most 64 letters, digits, '.', '_', '-' and '@'
    bool admin = false;
    std::array<uint8_t, 32> sha256;

    bool operator==(const Entry&) const = default;
    bool May(Scope scope) const { return admin || scope == Scope::kInfer; }
  };

  // One token on each line: NAME SCOPES SHA256, where SCOPES is infer, admin or both with a comma,
  // and SHA256 has 64 hexadecimal digits. '#' begins a comment. INVALID_ARGUMENT names `file`, the
  // line and what would be right, and repeats nothing of a line but a name that is well formed.
  static absl::StatusOr<TokenTable> Parse(absl::string_view text, absl::string_view file);

  // Reads and parses a file. NOT_FOUND, INVALID_ARGUMENT.
  static absl::StatusOr<TokenTable> Read(const std::string& file);

  // Null if nobody has this token. Compares with every entry, each in constant time, so that the
  // time tells nothing of how near a guess was.
  const Entry* Find(absl::string_view token) const;

  size_t size() const { return entries_.size(); }
  bool operator==(const TokenTable&) const = default;

 private:
  std::vector<Entry> entries_;
};

// 64 hexadecimal digits, as the file has them.
std::string HashToken(absl::string_view token);

}  // namespace dla::server
