#include "model/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace dla {
namespace {

// Weights are integers in units of 2^-22, as many bits as leave room in an int for 8 bits of pixel
// and 2 of overshoot.
constexpr int kWeightBits = 22;
constexpr int kOne = 1 << kWeightBits;
constexpr int kHalf = kOne / 2;

// What one output coordinate is made of: input coordinates first .. first + count - 1.
struct Taps {
  int first;
  int count;
  const int* weights;
};

double Triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

// Keys' cubic with a = -0.5 (IEEE TASSP 29(6), 1981).
double Cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// The taps of output coordinates begin .. begin + count - 1 along one axis.
class Axis {
 public:
  Axis(int input, double from, double extent, int64_t output, int64_t begin, int count,
       Interpolation interpolation) {
    const bool cubic = interpolation == Interpolation::kBicubic;
    const double scale = extent / static_cast<double>(output);
    const double stretch = std::max(scale, 1.0);  // widens the filter when shrinking: antialiasing
    const double support = (cubic ? 2.0 : 1.0) * stretch;
    const int max_taps = std::min(input, static_cast<int>(std::ceil(support)) * 2 + 1);
    weights_.resize(static_cast<size_t>(max_taps) * count);
    taps_.reserve(count);
    std::vector<double> exact(max_taps);
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
      int* weights = weights_.data() + static_cast<size_t>(max_taps) * i;
      for (int t = 0; t < end - first; ++t) {
        const double weight = sum != 0 ? exact[t] / sum : exact[t];
        weights[t] = static_cast<int>(weight * kOne + (weight < 0 ? -0.5 : 0.5));
      }
      taps_.push_back({first, end - first, weights});
    }
  }

  const Taps& operator[](int i) const { return taps_[i]; }
  // The input coordinates that any of the taps need: first() .. end() - 1.
  int first() const { return taps_.front().first; }
  int end() const { return taps_.back().first + taps_.back().count; }

 private:
  std::vector<int> weights_;
  std::vector<Taps> taps_;
};

uint8_t ToPixel(int sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

// One row, which begins at coordinate axis.first(), to `width` pixels.
void ResizeRow(const uint8_t* row, const Axis& axis, int width, uint8_t* out) {
  for (int i = 0; i < width; ++i, out += 3) {
    const Taps& taps = axis[i];
    const uint8_t* pixel = row + size_t{3} * (taps.first - axis.first());
    int red = kHalf, green = kHalf, blue = kHalf;
    for (int t = 0; t < taps.count; ++t, pixel += 3) {
      const int weight = taps.weights[t];
      red += pixel[0] * weight;
      green += pixel[1] * weight;
      blue += pixel[2] * weight;
    }
    out[0] = ToPixel(red);
    out[1] = ToPixel(green);
    out[2] = ToPixel(blue);
  }
}

// Blends rows that lie `stride` bytes apart, `bytes` of each, into one.
void BlendRows(const uint8_t* rows, size_t stride, size_t bytes, const Taps& taps, uint8_t* out) {
  constexpr size_t kBlock = 64;  // sums that stay in registers or the first-level cache
  for (size_t begin = 0; begin < bytes; begin += kBlock) {
    const size_t size = std::min(kBlock, bytes - begin);
    int sums[kBlock];
    std::fill_n(sums, size, kHalf);
    for (int t = 0; t < taps.count; ++t) {
      const uint8_t* row = rows + t * stride + begin;
      const int weight = taps.weights[t];
      for (size_t x = 0; x < size; ++x) sums[x] += row[x] * weight;
    }
    for (size_t x = 0; x < size; ++x) out[begin + x] = ToPixel(sums[x]);
  }
}

// Input coordinates of the nearest pixels. Steps are added up, not multiplied, as Pillow does it:
// that decides where a centre falls exactly between two pixels.
std::vector<int> NearestCoordinates(int input, double from, double extent, int64_t output,
                                    int64_t begin, int count) {
  const double step = extent / static_cast<double>(output);
  double position = from + step * 0.5;
  for (int64_t i = 0; i < begin; ++i) position += step;
  std::vector<int> coordinates(count);
  for (int& coordinate : coordinates) {
    coordinate = std::min(static_cast<int>(position), input - 1);
    position += step;
  }
  return coordinates;
}

void ResizeNearest(const Image& photo, const Region& region, const ResizedPart& part, Image& out) {
  const std::vector<int> ys = NearestCoordinates(photo.height, region.top, region.height,
                                                 part.resized_height, part.top, part.height);
  const std::vector<int> xs = NearestCoordinates(photo.width, region.left, region.width,
                                                 part.resized_width, part.left, part.width);
  uint8_t* to = out.pixels.data();
  for (int y : ys) {
    const uint8_t* row = photo.pixels.data() + y * photo.row_bytes();
    for (int x : xs) {
      std::memcpy(to, row + size_t{3} * x, 3);
      to += 3;
    }
  }
}

// The 8-bit result between the two passes is part of the arithmetic, so their order is as well.
// Pillow 13 starts with the vertical one for photos that shrink mostly in height; older ones never.
bool VerticalPassFirst(const Image& photo, const ResizedPart& part) {
  const int64_t rows_less = photo.height - part.resized_height;
  const int64_t columns_less = photo.width - part.resized_width;
  return rows_less > 2 * std::max<int64_t>(0, columns_less);
}

void ResizeSmooth(const Image& photo, const Region& region, const ResizedPart& part,
                  Interpolation interpolation, Image& out) {
  const Axis columns(photo.width, region.left, region.width, part.resized_width, part.left,
                     part.width, interpolation);
  const Axis rows(photo.height, region.top, region.height, part.resized_height, part.top,
                  part.height, interpolation);
  // What the taps need of the photo.
  const int height = rows.end() - rows.first();
  const int width = columns.end() - columns.first();
  const size_t from_stride = photo.row_bytes();
  const uint8_t* from =
      photo.pixels.data() + rows.first() * from_stride + size_t{3} * columns.first();
  const size_t to_stride = out.row_bytes();
  uint8_t* to = out.pixels.data();

  if (VerticalPassFirst(photo, part)) {
    std::vector<uint8_t> row(size_t{3} * width);
    for (int y = 0; y < part.height; ++y) {
      BlendRows(from + (rows[y].first - rows.first()) * from_stride, from_stride, row.size(),
                rows[y], row.data());
      ResizeRow(row.data(), columns, part.width, to + y * to_stride);
    }
    return;
  }
  std::vector<uint8_t> narrow(height * to_stride);
  for (int y = 0; y < height; ++y) {
    ResizeRow(from + y * from_stride, columns, part.width, narrow.data() + y * to_stride);
  }
  for (int y = 0; y < part.height; ++y) {
    BlendRows(narrow.data() + (rows[y].first - rows.first()) * to_stride, to_stride, to_stride,
              rows[y], to + y * to_stride);
  }
}

}  // namespace

Image ResizePart(const Image& photo, const Region& region, const ResizedPart& part,
                 Interpolation interpolation, std::shared_ptr<PixelMemory> memory) {
  Image out;
  out.height = part.height;
  out.width = part.width;
  out.pixels = Pixels(out.height * out.row_bytes(), PixelAllocator<uint8_t>(std::move(memory)));
  if (interpolation == Interpolation::kNearest) {
    ResizeNearest(photo, region, part, out);
  } else {
    ResizeSmooth(photo, region, part, interpolation, out);
  }
  return out;
}

}  // namespace dla
