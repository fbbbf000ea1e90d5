// The sheet of thumbnails that `dla-client similar --html` writes.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/similarity_ranking.h"

namespace dla::client {

struct SimilarPage {
  std::string query_file;
  const SimilarityRanking* ranking = nullptr;
  size_t compared = 0;  // photos that were compared with the query
};

// Writes the page with `append`, piece by piece, and returns the first error of `append`. The
// photos are in it as data: URIs, exactly as `read` gives them: this client has no codec that could
// make them smaller, and a page that refers to files breaks when it is moved, sent, or looked at
// from another folder. Photos beyond `max_bytes` in all, unreadable ones and those that are no
// JPEG, PNG or WebP leave a place that says so. The page loads nothing and runs no script.
absl::Status WriteSimilarPage(
    const SimilarPage& page, size_t max_bytes,
    absl::FunctionRef<absl::StatusOr<std::string>(const std::string&)> read,
    absl::FunctionRef<absl::Status(absl::string_view)> append);

// `text` made fit for HTML's text and quoted attributes: &, <, >, " and ' escaped, control
// characters and bytes that are no UTF-8 written out as on a terminal.
std::string HtmlText(absl::string_view text);

// "image/jpeg", "image/png" or "image/webp" by the first bytes; empty for anything else.
absl::string_view MediaType(absl::string_view photo);

}  // namespace dla::client
