#include "model/cuda/pixel_kernels.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/codec/turn.h"
#include "model/status_macros.h"

extern "C" const unsigned char dla_pixel_kernels_source[];
extern "C" const unsigned char dla_pixel_kernels_source_end[];

namespace dla::cuda {
namespace {

// Kernels of which there is one for each element type have three in a row.
enum Kernel {
  kNormalize = 0,  // element * 3 + one of 3, 4, 8 channels
  kMaxPool = 9,
  kGlobalAverage = 12,
  kFinishConv = 15,
  kConcat = 18,
  kTopK,
  kResizeRows,
  kResizeColumns,
  kFillPixels,
  kKernels
};

constexpr const char* kNames[] = {"normalize_fp16_3",
                                  "normalize_fp16_4",
                                  "normalize_fp16_8",
                                  "normalize_bf16_3",
                                  "normalize_bf16_4",
                                  "normalize_bf16_8",
                                  "normalize_fp32_3",
                                  "normalize_fp32_4",
                                  "normalize_fp32_8",
                                  "max_pool_fp16",
                                  "max_pool_bf16",
                                  "max_pool_fp32",
                                  "global_average_fp16",
                                  "global_average_bf16",
                                  "global_average_fp32",
                                  "finish_conv_fp16",
                                  "finish_conv_bf16",
                                  "finish_conv_fp32",
                                  "concat",
                                  "top_k",
                                  "resize_rows",
                                  "resize_columns",
                                  "fill_pixels"};
static_assert(std::size(kNames) == kKernels);

// Parameters of kernels, laid out as in the source.
struct NormalizationParameter {
  float scale[3];
  float offset[3];
};

struct ConcatParameter {
  const void* data[8];
  unsigned end[8];
};

struct PhotoViewParameter {
  const uint8_t* origin;
  long long row;
  long long column;
};

struct TapsParameter {
  const int32_t* first;
  const int32_t* count;
  const int32_t* weights;
  unsigned size;
};

constexpr unsigned kThreads = 256;  // top_k is written for so many

int Index(Element element) { return static_cast<int>(element); }
int PerVector(Element element) { return element == Element::kFp32 ? 4 : 8; }

// GlobalAverage has few threads that each read much: small blocks spread them over the card.
constexpr unsigned kFewThreads = 64;

// Blocks for so many threads; at least one, which then does nothing.
unsigned BlocksFor(int64_t threads, unsigned per_block = kThreads) {
  return static_cast<unsigned>(std::max<int64_t>(1, (threads + per_block - 1) / per_block));
}

// Kernels count in 32 bits.
absl::Status CheckCount(const char* function, int64_t count) {
  if (count >= 0 && count <= std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      function, ": ", count, " results at once, 0 to 2^31 - 1 are possible; use smaller batches"));
}

absl::Status CheckChannels(const char* function, int channels, Element element) {
  if (channels >= 0 && PixelKernels::Takes(element, channels)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(function, ": ", channels, " channels, not a multiple of ", PerVector(element)));
}

absl::Status CheckAligned(const char* function, const void* pointer) {
  if (reinterpret_cast<uintptr_t>(pointer) % 16 == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(function, ": a tensor is not 16-byte aligned"));
}

}  // namespace

absl::Span<const char* const> PixelKernels::KernelNames() { return kNames; }

bool PixelKernels::Takes(Element element, int channels) {
  return channels % PerVector(element) == 0;
}

template <typename... Args>
absl::Status PixelKernels::Launch(int kernel, unsigned blocks, unsigned threads, Stream stream,
                                  Args... args) const {
  void* pointers[] = {&args...};
  return launcher_->Launch(kernel, blocks, threads, pointers, stream);
}

absl::Status PixelKernels::Warm(Stream stream) const {
  const NormalizeFactors factors{InputSpec()};
  const Shape nothing = {};
  for (const Element element : {Element::kFp16, Element::kBf16, Element::kFp32}) {
    for (const int channels : {3, 4, 8}) {
      DLA_RETURN_IF_ERROR(Normalize(nullptr, 0, factors, element, channels, nullptr, stream));
    }
    DLA_RETURN_IF_ERROR(MaxPool2x2(nullptr, nothing, element, nullptr, stream));
    DLA_RETURN_IF_ERROR(GlobalAverage(nullptr, nothing, element, nullptr, stream));
    DLA_RETURN_IF_ERROR(FinishConv(nullptr, nothing, element, nullptr, nullptr, false, stream));
  }
  DLA_RETURN_IF_ERROR(Concat({{nullptr, 0}}, 0, Element::kFp16, nullptr, stream));
  const float* no_logits = nullptr;
  int32_t* no_indices = nullptr;
  float* no_probabilities = nullptr;
  DLA_RETURN_IF_ERROR(
      Launch(kTopK, 1, kThreads, stream, no_logits, 0u, 0u, no_indices, no_probabilities));
  const PhotoViewParameter photo = {};
  const TapsParameter taps = {};
  uint8_t* no_pixels = nullptr;
  const unsigned long long stride = 0;
  DLA_RETURN_IF_ERROR(Launch(kResizeRows, 1, kThreads, stream, photo, 0u, taps, no_pixels, stride));
  DLA_RETURN_IF_ERROR(
      Launch(kResizeColumns, 1, kThreads, stream, photo, 0u, taps, no_pixels, stride));
  return Launch(kFillPixels, 1, kThreads, stream, 0u, 0u, no_pixels);
}

absl::Status PixelKernels::Normalize(const uint8_t* photos, int64_t pixels,
                                     const NormalizeFactors& factors, Element element, int channels,
                                     void* out, Stream stream) const {
  DLA_RETURN_IF_ERROR(CheckCount("Normalize", pixels));
  DLA_RETURN_IF_ERROR(CheckAligned("Normalize", out));
  if (channels != 3 && channels != 4 && channels != 8) {
    return absl::InvalidArgumentError(
        absl::StrCat("Normalize: ", channels, " channels, not 3, 4 or 8"));
  }
  NormalizationParameter with;
  for (int c = 0; c < 3; ++c) {
    with.scale[c] = factors.scale[c];
    with.offset[c] = factors.offset[c];
  }
  const int kernel = kNormalize + Index(element) * 3 + (channels == 3 ? 0 : channels == 4 ? 1 : 2);
  return Launch(kernel, BlocksFor(pixels), kThreads, stream, photos, static_cast<unsigned>(pixels),
                with, out);
}

absl::Status PixelKernels::MaxPool2x2(const void* in, const Shape& shape, Element element,
                                      void* out, Stream stream) const {
  DLA_RETURN_IF_ERROR(CheckChannels("MaxPool2x2", shape.channels, element));
  DLA_RETURN_IF_ERROR(CheckAligned("MaxPool2x2", in));
  DLA_RETURN_IF_ERROR(CheckAligned("MaxPool2x2", out));
  if (shape.height % 2 != 0 || shape.width % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("MaxPool2x2: ", shape.height, " x ", shape.width,
                                                   " pixels, both must be even"));
  }
  const int channels = shape.channels / PerVector(element);
  const int64_t row = int64_t{shape.width / 2} * channels;
  const int64_t total = int64_t{shape.photos} * (shape.height / 2) * row;
  DLA_RETURN_IF_ERROR(CheckCount("MaxPool2x2", total));
  return Launch(kMaxPool + Index(element), BlocksFor(total), kThreads, stream, in,
                static_cast<unsigned>(total), static_cast<unsigned>(row),
                static_cast<unsigned>(channels), out);
}

absl::Status PixelKernels::FinishConv(void* y, const Shape& shape, Element element,
                                      const float* bias, const void* residual, bool relu,
                                      Stream stream) const {
  DLA_RETURN_IF_ERROR(CheckChannels("FinishConv", shape.channels, element));
  DLA_RETURN_IF_ERROR(CheckAligned("FinishConv", y));
  DLA_RETURN_IF_ERROR(CheckAligned("FinishConv", residual));
  const int channels = shape.channels / PerVector(element);
  const int64_t total = int64_t{shape.photos} * shape.height * shape.width * channels;
  DLA_RETURN_IF_ERROR(CheckCount("FinishConv", total));
  return Launch(kFinishConv + Index(element), BlocksFor(total), kThreads, stream, y,
                static_cast<unsigned>(total), static_cast<unsigned>(channels), bias, residual,
                static_cast<unsigned>(relu));
}

absl::Status PixelKernels::Concat(absl::Span<const Part> parts, int64_t pixels, Element element,
                                  void* out, Stream stream) const {
  if (parts.empty() || parts.size() > kMaxParts) {
    return absl::InvalidArgumentError(
        absl::StrCat("Concat: ", parts.size(), " tensors, 1 to ", kMaxParts, " are possible"));
  }
  DLA_RETURN_IF_ERROR(CheckAligned("Concat", out));
  ConcatParameter parameter;
  int64_t end = 0;
  for (size_t p = 0; p < kMaxParts; ++p) {
    const Part part = p < parts.size() ? parts[p] : Part{nullptr, 0};
    DLA_RETURN_IF_ERROR(CheckChannels("Concat", part.channels, element));
    DLA_RETURN_IF_ERROR(CheckAligned("Concat", part.data));
    end += part.channels / PerVector(element);
    DLA_RETURN_IF_ERROR(CheckCount("Concat", end));
    parameter.data[p] = part.data;
    parameter.end[p] = static_cast<unsigned>(end);
  }
  const int64_t total = pixels * end;
  DLA_RETURN_IF_ERROR(CheckCount("Concat", pixels));
  DLA_RETURN_IF_ERROR(CheckCount("Concat", total));
  return Launch(kConcat, BlocksFor(total), kThreads, stream, parameter,
                static_cast<unsigned>(total), static_cast<unsigned>(end), out);
}

absl::Status PixelKernels::GlobalAverage(const void* in, const Shape& shape, Element element,
                                         float* out, Stream stream) const {
  DLA_RETURN_IF_ERROR(CheckChannels("GlobalAverage", shape.channels, element));
  DLA_RETURN_IF_ERROR(CheckAligned("GlobalAverage", in));
  const int64_t pixels = int64_t{shape.height} * shape.width;
  const int channels = shape.channels / PerVector(element);
  const int64_t total = int64_t{shape.photos} * channels;
  DLA_RETURN_IF_ERROR(CheckCount("GlobalAverage", pixels));
  DLA_RETURN_IF_ERROR(CheckCount("GlobalAverage", total));
  return Launch(kGlobalAverage + Index(element), BlocksFor(total, kFewThreads), kFewThreads, stream,
                in, static_cast<unsigned>(total), static_cast<unsigned>(pixels),
                static_cast<unsigned>(channels), out);
}

absl::Status PixelKernels::TopK(const float* logits, int photos, int classes, int k,
                                int32_t* indices, float* probabilities, Stream stream) const {
  if (k < 1 || k > kMaxK || classes < 1 || photos < 0) {
    return absl::InvalidArgumentError(absl::StrCat("TopK: the ", k, " largest of ", classes,
                                                   " logits of ", photos, " photos; k is 1 to ",
                                                   kMaxK));
  }
  if (photos == 0) return absl::OkStatus();
  return Launch(kTopK, static_cast<unsigned>(photos), kThreads, stream, logits,
                static_cast<unsigned>(classes), static_cast<unsigned>(k), indices, probabilities);
}

absl::Status PixelKernels::Resize(const gpu::ResizePlan& plan, const int32_t* tables,
                                  const PhotoView& photo, uint8_t* scratch, uint8_t* out,
                                  Stream stream) const {
  const auto taps = [tables](const gpu::TapsTable& table) {
    return TapsParameter{tables + table.first, tables + table.count, tables + table.weights,
                         static_cast<unsigned>(table.size)};
  };
  const TapsParameter row_taps = taps(plan.row_taps), column_taps = taps(plan.column_taps);
  const PhotoViewParameter from = {
      photo.origin + plan.first_row * photo.row + plan.first_column * photo.column, photo.row,
      photo.column};
  const auto between_stride = static_cast<unsigned long long>(plan.scratch_stride());
  const PhotoViewParameter between = {scratch, static_cast<long long>(between_stride), 3};
  const unsigned long long stride = size_t{3} * plan.width;
  uint8_t* const to = out + plan.top * stride + size_t{3} * plan.left;
  const auto rows = static_cast<unsigned>(plan.rows);
  const auto columns = static_cast<unsigned>(plan.columns);

  if (plan.has_padding()) {
    const auto& color = plan.padding_color;
    const unsigned rgb = color[0] | color[1] << 8 | color[2] << 16;
    const int64_t pixels = int64_t{plan.height} * plan.width;
    DLA_RETURN_IF_ERROR(Launch(kFillPixels, BlocksFor(pixels), kThreads, stream,
                               static_cast<unsigned>(pixels), rgb, out));
  }
  if (plan.vertical_pass_first) {
    DLA_RETURN_IF_ERROR(Launch(kResizeColumns,
                               BlocksFor(int64_t{3} * plan.columns * plan.row_taps.size), kThreads,
                               stream, from, columns, row_taps, scratch, between_stride));
    return Launch(kResizeRows, BlocksFor(int64_t{plan.row_taps.size} * plan.column_taps.size),
                  kThreads, stream, between, row_taps.size, column_taps, to, stride);
  }
  DLA_RETURN_IF_ERROR(Launch(kResizeRows, BlocksFor(int64_t{plan.rows} * plan.column_taps.size),
                             kThreads, stream, from, rows, column_taps, scratch, between_stride));
  return Launch(kResizeColumns, BlocksFor(int64_t{3} * plan.column_taps.size * plan.row_taps.size),
                kThreads, stream, between, column_taps.size, row_taps, to, stride);
}

PixelKernels::PhotoView Upright(const uint8_t* pixels, int height, int width, int64_t stride,
                                int orientation) {
  const codec::Turn turn(orientation);
  PixelKernels::PhotoView view = {pixels, turn.transpose ? 3 : stride, turn.transpose ? stride : 3};
  const int upright_height = turn.transpose ? width : height;
  const int upright_width = turn.transpose ? height : width;
  if (turn.flip_y) {
    view.origin += (upright_height - 1) * view.row;
    view.row = -view.row;
  }
  if (turn.flip_x) {
    view.origin += (upright_width - 1) * view.column;
    view.column = -view.column;
  }
  return view;
}

std::string PixelKernelSource() {
  return {reinterpret_cast<const char*>(dla_pixel_kernels_source),
          reinterpret_cast<const char*>(dla_pixel_kernels_source_end)};
}

}  // namespace dla::cuda
