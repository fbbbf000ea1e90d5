// A DLA network that runs.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace dla {

// Immutable after construction: threads share its weights.
class Network {
 public:
  virtual ~Network() = default;

  // Classifies photos.size() >= 1 photos of height x width x 3 bytes of RGB each, of the size that
  // the network was made for.
  //   logits:     [photos, num_classes]
  //   embeddings: [photos, embedding_size], the pooled features before the classifier
  // May throw std::bad_alloc, and c10::Error where it uses LibTorch. Thread-safe.
  virtual void Run(absl::Span<const uint8_t* const> photos, float* logits,
                   float* embeddings) const = 0;
};

}  // namespace dla
