// What plans are made of, in the types of a KernelSet.
#pragma once

#include <cstdint>
#include <vector>

#include "model/cpu/plan.h"
#include "model/cpu/tiles.h"

namespace dla::cpu {

class PlanBuilder {
 protected:
  PlanBuilder(TensorSource source, const KernelSet& kernels) : source_(source), kernels_(kernels) {
    plan_.element = kernels.element();
  }

  // All but the first and the last add a step and return its output's number.
  int AddPhoto(int height, int width);
  // One of those at the photo's full size: `width` pixels. The first reads the photo.
  int StemConv(const FoldedConv& conv, int x, bool first, int width);
  // relu(conv(inputs, joined by channels) + residual)
  int Conv(const FoldedConv& conv, const std::vector<int>& inputs, int residual, bool relu);
  int MaxPool(int x);
  int Add(int a, int b);
  int AveragePool(int x, int stride);
  // The plan, with everything in its place. `output` is the value before the global average.
  Plan Finish(int output);

  int AddValue(const Value& value);
  int AddStep(Step step, const Value& output);
  Value WideValue(const PlaneGeometry& geometry, int channels, bool paired = false) const {
    Value value{geometry, channels, paired, kernels_.element()};
    if (!paired) value.geometry.align = align_;
    return value;
  }
  static PlaneGeometry Strided(const PlaneGeometry& geometry, int stride) {
    return {(geometry.height + stride - 1) / stride, (geometry.width + stride - 1) / stride};
  }
  // How a convolution's tiles come in chunks, and the steps in photo steps: by the bytes of its
  // weights and of what one tile reads.
  void ShapeWork(Step& step, int64_t weight_bytes, bool many_weights, int64_t tile_bytes);

  const TensorSource source_;
  const KernelSet& kernels_;
  Plan plan_;
  int align_ = 1;  // PlaneGeometry::align, but of the photo and of pairs

 private:
  int FirstConv(const FoldedConv& conv, int photo, int width);
  void FinishConv(Step& step, const FoldedConv& conv, const PlaneGeometry& output,
                  const ConvSpec& spec, std::vector<PixelTile> tiles);
  void MarkBorders();
};

}  // namespace dla::cpu
