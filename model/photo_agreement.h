// How far two networks agree on the same photos.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/model.h"

namespace dla {

struct Agreement {
  int64_t photos = 0;
  double top1 = 0;                   // share of photos with the same most probable class
  double mean_probability_off = 0;   // |difference| of a class's probability, over all classes
  double worst_probability_off = 0;  // of any class of any photo
  double mean_cosine = 0;            // of the embeddings
  double worst_cosine = 0;
  // Of the photos whose class is known.
  int64_t labelled = 0;
  double exact_accuracy = 0;
  double other_accuracy = 0;
};

// `exact` and `other`: of the same `photos` >= 1 photos. `labels`: the class of each, -1 where it
// is not known; or none. A cosine with a vector of zeros is 0, of two of them 1. What is not finite
// agrees with nothing.
Agreement CompareAnswers(const BatchOutput& exact, const BatchOutput& other, int64_t photos,
                         absl::Span<const int> labels);

}  // namespace dla
