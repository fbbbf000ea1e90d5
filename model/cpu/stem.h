// The convolutions at the begin of a network, which go over the photo at its full size. They take
// turns, a strip of some rows each, so that the values between them never exist as a whole: only
// the rows that the next strip needs do, and they stay in the processor's second cache.
#pragma once

#include "model/cpu/photo_bytes.h"
#include "model/cpu/pixel_ops.h"
#include "model/cpu/plan.h"
#include "model/input_spec.h"
#include "model/photo_input.h"

namespace dla::cpu {

// Rows of the last convolution's output that make a strip. With photos 224 pixels wide, what 8 take
// in float32 fits a cache of 1 MiB.
inline constexpr int kStripRows = 8;

// Immutable, thread-safe.
class Stem {
 public:
  // The first Plan::stem_steps of `plan`, or what takes their place for bytes. It must outlive
  // this.
  Stem(const InputSpec& input, const Plan& plan);

  // Computes these rows of the last convolution's output, each of which is the same whatever the
  // others are: threads can share a photo. `strips` are Plan::strip_bytes of memory, aligned to a
  // cell, that were zero before the first call and that nothing else writes to. `targets` are the
  // first pixels of the output's planes, whose borders are not touched.
  void Run(const PhotoInput& photo, RowRange rows, char* strips, char* const* targets) const;

 private:
  // `source` and `targets` lead to the planes' first pixels.
  void RunStep(const Step& step, RowRange rows, const char* source, char* const* targets) const;

  const Plan& plan_;
  const WindowWriter windows_;
  const PhotoBytes bytes_;
};

}  // namespace dla::cpu
