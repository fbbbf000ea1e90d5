// Convolutions in terms of taps and cells (see conv_kernel.h and planes.h).
#pragma once

#include <vector>

#include "model/cpu/conv_kernel.h"
#include "model/cpu/planes.h"
#include "model/folded_conv.h"

namespace dla::cpu {

// The inputs, of so many channels each, are joined in this order; each begins a new cell. All have
// the same geometry.
ConvSpec PlainConvSpec(const FoldedConv& conv, const std::vector<int>& input_channels,
                       const PlaneGeometry& geometry);

// 16 channels in pairs of pixels. With a stride of 1 the output is paired, too; with 2 it is not.
// 3x3 only.
ConvSpec PairedConvSpec(const FoldedConv& conv, const PlaneGeometry& geometry);

// 7x7 with a stride of 1 over 3 channels as WindowWriter writes them; the output is paired. With a
// ReLU.
ConvSpec WindowConvSpec(const FoldedConv& conv, const PlaneGeometry& geometry);

}  // namespace dla::cpu
