#include "model/gpu/ladder.h"

#include <algorithm>

namespace dla::gpu {

std::vector<int> MakeLadder(int max_batch) {
  std::vector<int> ladder;
  for (int step = 1; step < max_batch; step *= 2) ladder.push_back(step);
  ladder.push_back(max_batch);
  return ladder;
}

int StepFor(const std::vector<int>& ladder, int photos) {
  const auto step = std::lower_bound(ladder.begin(), ladder.end(), photos);
  return step == ladder.end() ? ladder.back() : *step;
}

}  // namespace dla::gpu
