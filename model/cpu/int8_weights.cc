#include "model/cpu/int8_weights.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "model/cpu/photo_bytes.h"

namespace dla::cpu {
namespace {

// 16 outputs of one of a unit's pixels.
struct Outputs {
  int pixel;
  int first;  // channel
};

// What a convolution multiplies with what.
class Weights {
 public:
  Weights(const ConvLayout& layout, const Int8Conv& conv, const Int8Inputs& inputs)
      : layout_(layout), conv_(conv), inputs_(inputs) {
    int channel = 0;
    for (int count : inputs.channels) {
      for (int begin = 0; begin < count; begin += inputs.cell) {
        planes_.push_back({channel + begin, std::min(inputs.cell, count - begin)});
      }
      channel += count;
    }
  }

  int planes() const { return static_cast<int>(planes_.size()); }

  // Adds a tap to the panel if any of its inputs belongs to any output. `row` and `column` are the
  // window's first pixel, relative to the unit's.
  void AddTap(int plane, int row, int column, const std::array<Outputs, 2>& outputs, int last,
              Int8Panel& panel) const {
    std::vector<int8_t> block(size_t{kWindow} * kPanelOutputs);
    bool any = false;
    for (int k = 0; k < kWindow; ++k) {
      const int in = k % inputs_.cell;
      if (in >= planes_[plane].channels) continue;
      for (int n = 0; n < kPanelOutputs; ++n) {
        const Outputs& half = outputs[n / kHalfOutputs];
        const int out = half.first + n % kHalfOutputs;
        if (out >= last) continue;
        const int8_t* weight = Find(out, planes_[plane].first + in, row,
                                    column + k / inputs_.cell - half.pixel * layout_.stride);
        if (weight == nullptr) continue;
        block[static_cast<size_t>(k) * kPanelOutputs + n] = *weight;
        any = true;
      }
    }
    if (!any) return;
    panel.taps.push_back({plane, (row * inputs_.pitch + column) * inputs_.cell});
    panel.weights.insert(panel.weights.end(), block.begin(), block.end());
  }

 private:
  struct Plane {
    int first;  // channel
    int channels;
  };

  // `row` and `column` from the kernel's centre; null where there is no weight.
  const int8_t* Find(int out, int in, int row, int column) const {
    const int pad = layout_.kernel / 2;
    if (column < -pad || column > pad) return nullptr;
    const int group_inputs = layout_.in_channels / layout_.groups;
    const int group = out / (layout_.out_channels / layout_.groups);
    in -= group * group_inputs;
    if (in < 0 || in >= group_inputs) return nullptr;
    const size_t tap = (row + pad) * layout_.kernel + column + pad;
    return &conv_.weight[(static_cast<size_t>(out) * group_inputs + in) * layout_.kernel *
                             layout_.kernel +
                         tap];
  }

  const ConvLayout& layout_;
  const Int8Conv& conv_;
  const Int8Inputs& inputs_;
  std::vector<Plane> planes_;
};

// The outputs of a unit, in pairs that read the same windows as far as there are such.
std::vector<std::array<Outputs, 2>> PairOutputs(const Int8Output& output, int unit_pixels,
                                                bool by_pixels) {
  std::vector<std::array<Outputs, 2>> pairs;
  const int end = output.first_channel + output.channels;
  if (by_pixels) {
    for (int channel = output.first_channel; channel < end; channel += kHalfOutputs) {
      pairs.push_back({Outputs{0, channel}, Outputs{1, channel}});
    }
    return pairs;
  }
  for (int pixel = 0; pixel < unit_pixels; ++pixel) {
    for (int channel = output.first_channel; channel < end; channel += kPanelOutputs) {
      pairs.push_back({Outputs{pixel, channel}, Outputs{pixel, channel + kHalfOutputs}});
    }
  }
  return pairs;
}

}  // namespace

int UnitPixels(int cell, int stride) { return cell < kWindow && stride == 1 ? 2 : 1; }

std::array<Int8Half, 2> HalvesOf(int channel, int cell) {
  const int second = channel + kHalfOutputs;
  return {Int8Half{channel / cell, channel % cell}, Int8Half{second / cell, second % cell}};
}

Int8ConvSpec MakeFirstInt8ConvSpec(const ConvLayout& layout, const Int8Conv& conv,
                                   const InputSpec& input, float step) {
  constexpr int kUnitPixels = 2;
  constexpr int kRowBytes = kPhotoCell / 2;
  const int kernel = layout.kernel;
  Int8ConvSpec spec;
  spec.source_cell = kPhotoCell;
  spec.source_bytes = kUnitPixels * kPhotoCell;
  spec.target_cell = kHalfOutputs;
  spec.target_bytes = kUnitPixels * kHalfOutputs;
  Int8Panel panel;
  panel.halves = {Int8Half{0, 0}, Int8Half{0, kHalfOutputs}};
  const int pitch = PhotoBytes::Geometry(input).pitch();
  for (int row = 0; row < kernel; row += 2) {
    panel.taps.push_back({0, ((row - kernel / 2) * pitch - kernel / 2) * kPhotoCell});
    for (int k = 0; k < kWindow; ++k) {
      const int y = row + k % kPhotoCell / kRowBytes;
      const int channel = k % kRowBytes;
      for (int n = 0; n < kPanelOutputs; ++n) {
        const int out = n % kHalfOutputs;
        const int x = k / kPhotoCell - n / kHalfOutputs;
        const bool is_weight = y < kernel && x >= 0 && x < kernel && channel < layout.in_channels &&
                               out < layout.out_channels;
        panel.weights.push_back(
            is_weight
                ? conv.weight[((out * layout.in_channels + channel) * kernel + y) * kernel + x]
                : 0);
      }
    }
  }
  const int weights = layout.in_channels * kernel * kernel;  // of an output
  for (int n = 0; n < kPanelOutputs; ++n) {
    const int out = n % kHalfOutputs;
    if (out >= layout.out_channels) continue;
    double zero = 0;  // what a photo of means sums up to
    for (int i = 0; i < weights; ++i) {
      zero += 255.0 * input.mean[i / (kernel * kernel)] * conv.weight[out * weights + i];
    }
    panel.factor[n] = conv.scale[out] / step;
    panel.term[n] = static_cast<float>((conv.bias[out] - conv.scale[out] * zero) / step);
  }
  spec.panels.push_back(std::move(panel));
  return spec;
}

Int8ConvSpec MakeInt8ConvSpec(const ConvLayout& layout, const Int8Conv& conv,
                              const Int8Inputs& inputs, const Int8Output& output,
                              const Int8Residual& residual) {
  const Weights weights(layout, conv, inputs);
  const int unit_pixels = UnitPixels(inputs.cell, layout.stride);
  const int channel_bytes = output.element == Element::kInt8   ? 1
                            : output.element == Element::kBf16 ? 2
                                                               : 4;
  Int8ConvSpec spec;
  spec.source_cell = inputs.cell;
  spec.source_bytes = inputs.cell * unit_pixels * layout.stride;
  spec.target_cell = output.cell_channels * channel_bytes;
  spec.target_bytes = spec.target_cell * unit_pixels;
  spec.target = output.element;
  spec.residual_cell = residual.cell;
  spec.residual_factor = residual.present ? residual.step / output.step : 0;
  spec.relu = output.relu;
  const bool in_bytes = output.element == Element::kInt8;
  float offset = output.is_signed && in_bytes ? kSignedOffset : 0;
  if (residual.present && residual.is_signed) offset -= kSignedOffset * spec.residual_factor;

  // Windows begin with the first pixel that the kernel reads.
  const int pad = layout.kernel / 2;
  const int window_pixels = kWindow / inputs.cell;
  const int read = (unit_pixels - 1) * layout.stride + layout.kernel;
  const bool by_pixels = unit_pixels == 2 && (output.channels <= kHalfOutputs ||
                                              (layout.groups > 1 && inputs.cell == kHalfOutputs));
  const int end = output.first_channel + output.channels;
  for (const auto& outputs : PairOutputs(output, unit_pixels, by_pixels)) {
    Int8Panel panel;
    for (int plane = 0; plane < weights.planes(); ++plane) {
      for (int row = -pad; row <= pad; ++row) {
        for (int from = 0; from < read; from += window_pixels) {
          weights.AddTap(plane, row, from - pad, outputs, end, panel);
        }
      }
    }
    for (int half = 0; half < 2; ++half) {
      const int channel = outputs[half].first - output.first_channel;
      panel.halves[half] = {
          channel / output.cell_channels,
          outputs[half].pixel * spec.target_cell + channel % output.cell_channels * channel_bytes};
      if (residual.present) {
        panel.residual_halves[half] = {
            channel / residual.cell, outputs[half].pixel * residual.cell + channel % residual.cell};
      }
      for (int n = 0; n < kHalfOutputs; ++n) {
        const int out = outputs[half].first + n;
        if (out >= end) continue;
        panel.factor[half * kHalfOutputs + n] = conv.scale[out] / output.step;
        panel.term[half * kHalfOutputs + n] = conv.bias[out] / output.step + offset;
      }
    }
    spec.panels.push_back(std::move(panel));
  }
  return spec;
}

}  // namespace dla::cpu
