// The class labels that are compiled in.
#pragma once

#include "absl/types/span.h"
#include "model/model.h"

namespace dla {

// The 1000 classes of ImageNet-1k by index: names as in "Samoyed, Samoyede", WordNet ids.
// Valid for ever. Source: model/labels/imagenet1k.tsv. Thread-safe.
absl::Span<const Label> ImageNet1kLabels();

}  // namespace dla
