// The batch sizes that a network is made ready for on a GPU.
#pragma once

#include <vector>

namespace dla::gpu {

// 1, 2, 4, 8 ... and `max_batch` itself, which is at least 1. Between two powers of two, at most
// half of a batch is padding; each step takes a moment to load and no memory of its own, since all
// steps of a lane share theirs.
std::vector<int> MakeLadder(int max_batch);

// The smallest step that holds so many photos, the last one if none does. `ladder` rises and is not
// empty.
int StepFor(const std::vector<int>& ladder, int photos);

}  // namespace dla::gpu
