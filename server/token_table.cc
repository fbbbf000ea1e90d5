#include "server/token_table.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "model/status_macros.h"
#include "model/whole_file.h"

namespace dla::server {
namespace {

using Hash = std::array<uint8_t, 32>;

Hash Sha256(absl::string_view text) {
  Hash hash;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
  return hash;
}

bool IsName(absl::string_view name) {
  return name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' || c == '@';
         });
}

// Errors tell what would be right and nothing of the text, which may be a token itself.
absl::StatusOr<TokenTable::Entry> ParseLine(absl::string_view line) {
  const std::vector<absl::string_view> fields =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (fields.size() != 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        fields.size(), " fields; write NAME SCOPES SHA256, for example: batch-job infer 5e88..."));
  }
  TokenTable::Entry entry;
  if (!IsName(fields[0])) {
    return absl::InvalidArgumentError(
        "the name is not made of at most 64 letters, digits, '.', '_', '-' and '@'");
  }
  entry.name = std::string(fields[0]);
  for (const absl::string_view scope : absl::StrSplit(fields[1], ',')) {
    if (scope != "infer" && scope != "admin") {
      return absl::InvalidArgumentError(absl::StrCat(
          "token \"", entry.name, "\" has an unknown scope; there are infer and admin"));
    }
    entry.admin = entry.admin || scope == "admin";
  }
  if (fields[2].size() != 64 || !std::all_of(fields[2].begin(), fields[2].end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError(absl::StrCat(
        "token \"", entry.name,
        "\" has no SHA-256 of 64 hexadecimal digits; `dla-server --hash-token` reads a token from "
        "standard input and prints it"));
  }
  const std::string hash = absl::HexStringToBytes(fields[2]);
  std::copy(hash.begin(), hash.end(), entry.sha256.begin());
  return entry;
}

}  // namespace

absl::string_view ToString(Scope scope) { return scope == Scope::kAdmin ? "admin" : "infer"; }

absl::StatusOr<TokenTable> TokenTable::Parse(absl::string_view text, absl::string_view file) {
  const Hash nothing = Sha256("");
  TokenTable table;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const auto error = [&](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat(file, ":", number, ": ", what));
    };
    absl::StatusOr<Entry> entry = ParseLine(line);
    if (!entry.ok()) return error(entry.status().message());
    if (entry->sha256 == nothing) {
      return error(absl::StrCat("token \"", entry->name,
                                "\" has the SHA-256 of nothing; hash the token itself"));
    }
    for (const Entry& other : table.entries_) {
      if (other.name == entry->name || other.sha256 == entry->sha256) {
        return error(absl::StrCat("token \"", entry->name, "\" has the name or the SHA-256 of ",
                                  "another line; each token has its own"));
      }
    }
    table.entries_.push_back(*std::move(entry));
  }
  if (table.entries_.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file,
                     " holds no token, so nobody could call; write NAME SCOPES SHA256 lines, "
                     "or leave --token-file out"));
  }
  return table;
}

absl::StatusOr<TokenTable> TokenTable::Read(const std::string& file) {
  DLA_ASSIGN_OR_RETURN(const std::string text,
                       ReadWholeFile(file, kMaxFileBytes, "see --token-file"));
  return Parse(text, file);
}

const TokenTable::Entry* TokenTable::Find(absl::string_view token) const {
  const Hash hash = Sha256(token);
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(entry.sha256.data(), hash.data(), hash.size()) == 0) found = &entry;
  }
  return found;
}

std::string HashToken(absl::string_view token) {
  const Hash hash = Sha256(token);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
}

}  // namespace dla::server
