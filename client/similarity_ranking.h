// Which embeddings lie nearest to a given one.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/photo_result.h"
#include "dla/v1/classifier.pb.h"

namespace dla::client {

struct SimilarPhoto {
  std::string file;
  double similarity = 0;  // cosine, -1 .. 1
  dla::v1::Class top;     // the most probable class
};

// Keeps the nearest photos of any number. Embeddings are of L2 length 1, as the server scales them,
// so that their dot product is the cosine of their angle. Not thread-safe.
class SimilarityRanking {
 public:
  // At most `top` >= 1 photos are kept.
  explicit SimilarityRanking(size_t top) : top_(top) {}

  // What all others are compared with; to be called first. INVALID_ARGUMENT if it has no usable
  // embedding.
  absl::Status SetQuery(const dla::v1::ClassifyResponse& query);

  // FAILED_PRECONDITION if another model or version answered than for the query: the embeddings
  // cannot be compared, and nothing is added. INVALID_ARGUMENT for an embedding that is of another
  // length or holds no numbers.
  absl::Status Add(const std::string& file, const dla::v1::ClassifyResponse& answer);

  // Falling similarity; equal ones in the order in which they were added.
  const std::vector<SimilarPhoto>& photos() const { return photos_; }

  const dla::v1::ClassifyResponse& query() const { return query_; }

 private:
  const size_t top_;
  dla::v1::ClassifyResponse query_;
  std::vector<SimilarPhoto> photos_;
};

}  // namespace dla::client
