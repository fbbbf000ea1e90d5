#include "model/photo_agreement.h"

#include <algorithm>
#include <cmath>

#include "model/top_k.h"

namespace dla {
namespace {

absl::Span<const float> Row(const std::vector<float>& values, int64_t row, int64_t rows) {
  const size_t width = values.size() / rows;
  return absl::MakeConstSpan(values).subspan(row * width, width);
}

double Cosine(absl::Span<const float> a, absl::Span<const float> b) {
  double product = 0;
  double a_length = 0;
  double b_length = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += double{a[i]} * b[i];
    a_length += double{a[i]} * a[i];
    b_length += double{b[i]} * b[i];
  }
  if (a_length == 0 && b_length == 0) return 1;
  const double cosine = product / std::sqrt(a_length * b_length);
  return std::isfinite(cosine) ? cosine : 0;
}

bool AllFinite(absl::Span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

Agreement CompareAnswers(const BatchOutput& exact, const BatchOutput& other, int64_t photos,
                         absl::Span<const int> labels) {
  Agreement result;
  result.photos = photos;
  result.worst_cosine = 1;
  const auto n = static_cast<double>(photos);
  for (int64_t i = 0; i < photos; ++i) {
    const auto exact_logits = Row(exact.logits, i, photos);
    const auto other_logits = Row(other.logits, i, photos);
    const int exact_top = TopK(exact_logits, 1).front().index;
    const bool finite = AllFinite(other_logits);
    const int other_top = finite ? TopK(other_logits, 1).front().index : -1;
    result.top1 += exact_top == other_top ? 1 / n : 0;
    const std::vector<float> p = Softmax(exact_logits);
    const std::vector<float> q = Softmax(other_logits);
    for (size_t c = 0; c < p.size(); ++c) {
      const double off = finite ? std::abs(double{p[c]} - q[c]) : 1;
      result.mean_probability_off += off / static_cast<double>(p.size()) / n;
      result.worst_probability_off = std::max(result.worst_probability_off, off);
    }
    const double cosine =
        Cosine(Row(exact.embeddings, i, photos), Row(other.embeddings, i, photos));
    result.mean_cosine += cosine / n;
    result.worst_cosine = std::min(result.worst_cosine, cosine);
    if (labels.empty() || labels[i] < 0) continue;
    ++result.labelled;
    result.exact_accuracy += exact_top == labels[i] ? 1 : 0;
    result.other_accuracy += other_top == labels[i] ? 1 : 0;
  }
  if (result.labelled > 0) {
    result.exact_accuracy /= static_cast<double>(result.labelled);
    result.other_accuracy /= static_cast<double>(result.labelled);
  }
  return result;
}

}  // namespace dla
