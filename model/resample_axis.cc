#include "model/resample_axis.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace dla {
namespace {

constexpr int kOne = 1 << kResampleWeightBits;

double Triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

// Keys' cubic with a = -0.5 (IEEE TASSP 29(6), 1981).
double Cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

}  // namespace

ResampleAxis::ResampleAxis(int input, double from, double extent, int64_t output, int64_t begin,
                           int count, Interpolation interpolation) {
  const bool cubic = interpolation == Interpolation::kBicubic;
  const double scale = extent / static_cast<double>(output);
  const double stretch = std::max(scale, 1.0);  // widens the filter when shrinking: antialiasing
  const double support = (cubic ? 2.0 : 1.0) * stretch;
  max_taps_ = std::min(input, static_cast<int>(std::ceil(support)) * 2 + 1);
  weights_.resize(static_cast<size_t>(max_taps_) * count);
  taps_.reserve(count);
  std::vector<double> exact(max_taps_);
  for (int i = 0; i < count; ++i) {
    const double center = from + (static_cast<double>(begin + i) + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int end = std::min(input, static_cast<int>(center + support + 0.5));
    double sum = 0;
    for (int x = first; x < end; ++x) {
      const double distance = (x - center + 0.5) * (1.0 / stretch);
      exact[x - first] = cubic ? Cubic(distance) : Triangle(distance);
      sum += exact[x - first];
    }
    int* weights = weights_.data() + static_cast<size_t>(max_taps_) * i;
    for (int t = 0; t < end - first; ++t) {
      const double weight = sum != 0 ? exact[t] / sum : exact[t];
      weights[t] = static_cast<int>(weight * kOne + (weight < 0 ? -0.5 : 0.5));
    }
    taps_.push_back({first, end - first, weights});
  }
}

}  // namespace dla
