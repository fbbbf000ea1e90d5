// A DLA network that runs.
#pragma once

#include "absl/types/span.h"
#include "model/photo_input.h"

namespace dla {

// Immutable after construction: threads share its weights.
class Network {
 public:
  virtual ~Network() = default;

  // Classifies photos.size() >= 1 photos of the size that the network was made for.
  //   logits:     [photos, num_classes]
  //   embeddings: [photos, embedding_size], the pooled features before the classifier
  // May throw std::bad_alloc, and c10::Error where it uses LibTorch. Thread-safe.
  virtual void Run(absl::Span<const PhotoInput> photos, float* logits, float* embeddings) const = 0;
};

}  // namespace dla
