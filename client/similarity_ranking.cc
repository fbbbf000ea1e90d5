#include "client/similarity_ranking.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dla::client {
namespace {

using Embedding = google::protobuf::RepeatedField<float>;

double Dot(const Embedding& a, const Embedding& b) {
  double sum = 0;
  for (int i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// An embedding of zeros cannot be scaled and has no direction.
absl::Status CheckUnitLength(const Embedding& embedding) {
  const double length = std::sqrt(Dot(embedding, embedding));
  if (std::abs(length - 1) < 1e-2) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("has an embedding of ", embedding.size(), " values with L2 length ", length,
                   " instead of 1, which nothing can be compared with"));
}

}  // namespace

absl::Status SimilarityRanking::SetQuery(const dla::v1::ClassifyResponse& query) {
  if (absl::Status status = CheckUnitLength(query.embedding()); !status.ok()) return status;
  query_ = query;
  return absl::OkStatus();
}

absl::Status SimilarityRanking::Add(const std::string& file,
                                    const dla::v1::ClassifyResponse& answer) {
  if (answer.model() != query_.model() || answer.model_version() != query_.model_version()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the server changed its model meanwhile: the query was answered by ", query_.model(),
        " version ", query_.model_version(), ", ", file, " by ", answer.model(), " version ",
        answer.model_version(), ", and their embeddings cannot be compared; run it again"));
  }
  if (answer.embedding_size() != query_.embedding_size()) {
    return absl::InvalidArgumentError(absl::StrCat("has an embedding of ", answer.embedding_size(),
                                                   " values, the query one of ",
                                                   query_.embedding_size()));
  }
  if (absl::Status status = CheckUnitLength(answer.embedding()); !status.ok()) return status;
  const double similarity = std::clamp(Dot(answer.embedding(), query_.embedding()), -1.0, 1.0);
  const auto place =
      std::upper_bound(photos_.begin(), photos_.end(), similarity,
                       [](double s, const SimilarPhoto& photo) { return s > photo.similarity; });
  if (place == photos_.end() && photos_.size() == top_) return absl::OkStatus();
  photos_.insert(place, {.file = file,
                         .similarity = similarity,
                         .top = answer.classes_size() > 0 ? answer.classes(0) : dla::v1::Class()});
  if (photos_.size() > top_) photos_.pop_back();
  return absl::OkStatus();
}

}  // namespace dla::client
