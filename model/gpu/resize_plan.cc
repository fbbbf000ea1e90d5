#include "model/gpu/resize_plan.h"

#include <limits>
#include <new>

#include "model/preprocess.h"
#include "model/resample_axis.h"

namespace dla::gpu {
namespace {

TapsTable Append(const ResampleAxis& axis, std::vector<int32_t>& tables) {
  const size_t size = static_cast<size_t>(axis.size());
  const TapsTable table = {.first = tables.size(),
                           .count = tables.size() + size,
                           .weights = tables.size() + 2 * size,
                           .size = axis.size()};
  tables.resize(table.weights + size * axis.max_taps());
  for (size_t i = 0; i < size; ++i) {
    const ResampleTaps& taps = axis[static_cast<int>(i)];
    tables[table.first + i] = taps.first - axis.first();
    tables[table.count + i] = taps.count;
    for (int t = 0; t < taps.count; ++t) {
      tables[table.weights + t * size + i] = taps.weights[t];
    }
  }
  return table;
}

}  // namespace

absl::StatusOr<ResizePlan> PlanResize(int height, int width, const InputSpec& spec) try {
  if (spec.interpolation == Interpolation::kNearest) {
    return absl::UnimplementedError("nearest-neighbour resizing runs on the processor");
  }
  const Placement placement = Place(height, width, spec);
  const ResizedPart& part = placement.part;
  const ResampleAxis rows(height, 0, height, part.resized_height, part.top, part.height,
                          spec.interpolation);
  const ResampleAxis columns(width, 0, width, part.resized_width, part.left, part.width,
                             spec.interpolation);
  ResizePlan plan;
  plan.height = spec.height;
  plan.width = spec.width;
  plan.first_row = rows.first();
  plan.rows = rows.end() - rows.first();
  plan.first_column = columns.first();
  plan.columns = columns.end() - columns.first();
  plan.top = placement.padding_top;
  plan.left = placement.padding_left;
  plan.row_taps = Append(rows, plan.tables);
  plan.column_taps = Append(columns, plan.tables);
  plan.padding_color = placement.padding_color;
  plan.vertical_pass_first = VerticalPassFirst(height, width, part);
  constexpr size_t kMost = std::numeric_limits<int32_t>::max();
  if (plan.scratch_bytes() > kMost || size_t{3} * spec.height * spec.width > kMost) {
    return absl::UnimplementedError("a photo this large is resized on the processor");
  }
  return plan;
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("out of memory while resizing a photo");
}

}  // namespace dla::gpu
