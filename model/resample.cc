#include "model/resample.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "model/resample_axis.h"

namespace dla {
namespace {

constexpr int kHalf = 1 << (kResampleWeightBits - 1);

uint8_t ToPixel(int sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kResampleWeightBits, 0, 255));
}

// One row, which begins at coordinate axis.first(), to `width` pixels.
void ResizeRow(const uint8_t* row, const ResampleAxis& axis, int width, uint8_t* out) {
  for (int i = 0; i < width; ++i, out += 3) {
    const ResampleTaps& taps = axis[i];
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
void BlendRows(const uint8_t* rows, size_t stride, size_t bytes, const ResampleTaps& taps,
               uint8_t* out) {
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

void ResizeSmooth(const Image& photo, const Region& region, const ResizedPart& part,
                  Interpolation interpolation, Image& out) {
  const ResampleAxis columns(photo.width, region.left, region.width, part.resized_width, part.left,
                             part.width, interpolation);
  const ResampleAxis rows(photo.height, region.top, region.height, part.resized_height, part.top,
                          part.height, interpolation);
  // What the taps need of the photo.
  const int height = rows.end() - rows.first();
  const int width = columns.end() - columns.first();
  const size_t from_stride = photo.row_bytes();
  const uint8_t* from =
      photo.pixels.data() + rows.first() * from_stride + size_t{3} * columns.first();
  const size_t to_stride = out.row_bytes();
  uint8_t* to = out.pixels.data();

  if (VerticalPassFirst(photo.height, photo.width, part)) {
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

bool VerticalPassFirst(int photo_height, int photo_width, const ResizedPart& part) {
  const int64_t rows_less = photo_height - part.resized_height;
  const int64_t columns_less = photo_width - part.resized_width;
  return rows_less > 2 * std::max<int64_t>(0, columns_less);
}

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
