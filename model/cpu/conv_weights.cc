#include "model/cpu/conv_weights.h"

#include <algorithm>
#include <cstddef>

namespace dla::cpu {
namespace {

// Weights of one panel and tap: [32 inputs][32 outputs].
class TapWeights {
 public:
  TapWeights(ConvSpec& spec, size_t panel, size_t tap)
      : weights_(spec.weights.data() + (panel * spec.taps.size() + tap) * kCell * kCell) {}

  float& at(int input, int output) { return weights_[input * kCell + output]; }

 private:
  float* weights_;
};

float WeightOf(const FoldedConv& conv, int out, int in, int row, int column) {
  return conv
      .weight[((static_cast<size_t>(out) * (conv.in_channels / conv.groups) + in) * conv.kernel +
               row) *
                  conv.kernel +
              column];
}

void Allocate(ConvSpec& spec, int panels) {
  spec.panels = panels;
  spec.weights.resize(static_cast<size_t>(panels) * spec.taps.size() * kCell * kCell);
  spec.bias.resize(static_cast<size_t>(panels) * kCell);
}

// Whether a panel's groups read exactly the cell of the same number.
bool IsCellwise(const FoldedConv& conv) {
  const int width = conv.in_channels / conv.groups;
  return conv.groups > 1 && conv.in_channels == conv.out_channels && kCell % width == 0 &&
         conv.in_channels % kCell == 0;
}

}  // namespace

ConvSpec PlainConvSpec(const FoldedConv& conv, const std::vector<int>& input_channels,
                       const PlaneGeometry& geometry) {
  ConvSpec spec;
  spec.source_step = conv.stride;
  const int pad = conv.kernel / 2;
  const int panels = (conv.out_channels + kCell - 1) / kCell;
  const int group_inputs = conv.in_channels / conv.groups;
  const int group_outputs = conv.out_channels / conv.groups;
  const bool cellwise = IsCellwise(conv);
  spec.plane_shift = cellwise ? 1 : 0;

  struct Cell {
    int first_channel;  // of the convolution's input
    int channels;
  };
  std::vector<Cell> cells;
  int channel = 0;
  for (int count : input_channels) {
    for (int begin = 0; begin < count; begin += kCell) {
      cells.push_back({channel + begin, std::min(kCell, count - begin)});
    }
    channel += count;
  }
  const size_t read = cellwise ? 1 : cells.size();
  for (size_t cell = 0; cell < read; ++cell) {
    for (int row = -pad; row <= pad; ++row) {
      for (int column = -pad; column <= pad; ++column) {
        spec.taps.push_back({static_cast<int>(cell), row * geometry.pitch() + column});
      }
    }
  }
  Allocate(spec, panels);
  const int area = conv.kernel * conv.kernel;
  for (int panel = 0; panel < panels; ++panel) {
    for (size_t tap = 0; tap < spec.taps.size(); ++tap) {
      const Cell& cell = cells[cellwise ? panel : tap / area];
      const int row = static_cast<int>(tap) % area / conv.kernel;
      const int column = static_cast<int>(tap) % area % conv.kernel;
      TapWeights weights(spec, panel, tap);
      for (int n = 0; n < kCell && panel * kCell + n < conv.out_channels; ++n) {
        const int out = panel * kCell + n;
        const int group = out / group_outputs;
        for (int k = 0; k < cell.channels; ++k) {
          const int in = cell.first_channel + k - group * group_inputs;
          if (in < 0 || in >= group_inputs) continue;
          weights.at(k, n) = WeightOf(conv, out, in, row, column);
        }
      }
    }
  }
  std::copy(conv.bias.begin(), conv.bias.end(), spec.bias.begin());
  return spec;
}

ConvSpec PairedConvSpec(const FoldedConv& conv, const PlaneGeometry& geometry) {
  constexpr int kPaired = kCell / 2;  // channels
  ConvSpec spec;
  // Pixel 2x + j of the output depends on the pixels 2x + j - 1 to 2x + j + 1 of the input, which
  // lie in the pairs x - 1 to x + 1; at a stride of 2, x on 2x - 1 to 2x + 1.
  const bool paired_output = conv.stride == 1;
  const int outputs = paired_output ? 2 : 1;
  const int last_pair = paired_output ? 1 : 0;
  for (int row = -1; row <= 1; ++row) {
    for (int pair = -1; pair <= last_pair; ++pair) {
      spec.taps.push_back({0, row * geometry.pitch() + pair});
    }
  }
  const int panels = (outputs * conv.out_channels + kCell - 1) / kCell;
  Allocate(spec, panels);
  for (int panel = 0; panel < panels; ++panel) {
    for (size_t tap = 0; tap < spec.taps.size(); ++tap) {
      const int row = static_cast<int>(tap) / (last_pair + 2);
      const int pair = static_cast<int>(tap) % (last_pair + 2) - 1;
      TapWeights weights(spec, panel, tap);
      for (int n = 0; n < kCell; ++n) {
        const int j = paired_output ? n / kPaired : 0;
        const int out = paired_output ? n % kPaired : panel * kCell + n;
        if (out >= conv.out_channels) continue;
        for (int k = 0; k < kCell; ++k) {
          const int column = 2 * pair + k / kPaired - j + 1;
          if (column < 0 || column > 2) continue;
          weights.at(k, n) = WeightOf(conv, out, k % kPaired, row, column);
        }
      }
    }
  }
  for (int i = 0; i < outputs; ++i) {
    std::copy(conv.bias.begin(), conv.bias.end(), spec.bias.begin() + i * kPaired);
  }
  return spec;
}

ConvSpec WindowConvSpec(const FoldedConv& conv, const PlaneGeometry& geometry) {
  constexpr int kPaired = kCell / 2;
  constexpr int kValues = 4;  // of a pixel, the last being 0
  ConvSpec spec;
  spec.relu = true;
  const int pad = conv.kernel / 2;
  for (int row = -pad; row <= pad; ++row) spec.taps.push_back({0, row * geometry.pitch()});
  Allocate(spec, /*panels=*/1);
  for (size_t tap = 0; tap < spec.taps.size(); ++tap) {
    TapWeights weights(spec, 0, tap);
    for (int n = 0; n < kCell; ++n) {
      for (int k = 0; k < kCell; ++k) {
        const int column = k / kValues - n / kPaired;
        const int channel = k % kValues;
        if (column < 0 || column >= conv.kernel || channel >= conv.in_channels) continue;
        weights.at(k, n) = WeightOf(conv, n % kPaired, channel, static_cast<int>(tap), column);
      }
    }
  }
  for (int n = 0; n < kCell; ++n) spec.bias[n] = conv.bias[n % kPaired];
  return spec;
}

}  // namespace dla::cpu
