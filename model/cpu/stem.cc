#include "model/cpu/stem.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"

namespace dla::cpu {
namespace {

// Those rows of a value, which has one plane, that are in memory.
class Strip {
 public:
  // `all`: the rows that the value has.
  Strip(const Value& value, RowRange all, char* strips)
      : all_(all),
        row_bytes_(value.geometry.pitch() * value.cell_bytes()),
        memory_(strips + value.offset + value.geometry.left * value.cell_bytes()) {}

  // Has it hold these rows from now on. Keeps those that it held, zeros those that the value does
  // not have and returns the others, which are to be written. Neither begins nor ends may decrease.
  RowRange Slide(RowRange rows) {
    const int kept = std::max(rows_.end - rows.begin, 0);
    if (kept > 0) {
      std::memmove(memory_, memory_ + RowsToBytes(rows.begin - rows_.begin), RowsToBytes(kept));
    }
    rows_ = rows;
    const RowRange added{rows.begin + kept, rows.end};
    const RowRange inside = added.Within(all_);
    Clear(added.begin, std::min(inside.begin, added.end));
    Clear(std::max(inside.end, added.begin), added.end);
    return inside;
  }

  // Where the plane's first pixel would lie if all rows were there.
  char* First() const { return memory_ - RowsToBytes(rows_.begin); }

 private:
  int64_t RowsToBytes(int rows) const { return rows * row_bytes_; }

  void Clear(int begin, int end) {
    if (begin < end) std::memset(First() + RowsToBytes(begin), 0, RowsToBytes(end - begin));
  }

  static constexpr int kNone = std::numeric_limits<int>::min() / 2;

  const RowRange all_;
  const int64_t row_bytes_;
  char* const memory_;  // first pixel of the first row that it holds
  RowRange rows_{kNone, kNone};
};

}  // namespace

Stem::Stem(const InputSpec& input, const Plan& plan)
    : plan_(plan), windows_(input), bytes_(input) {}

void Stem::RunStep(const Step& step, RowRange rows, const char* source,
                   char* const* targets) const {
  if (rows.size() == 0) return;
  const Value& value = plan_.values[step.output];
  const PlaneGeometry& output = value.geometry;
  const ConvBuffers buffers{&source, nullptr, targets};
  const auto tiles = absl::MakeConstSpan(step.tiles);
  absl::InlinedVector<ConvPiece, 16> columns;
  for (size_t begin = 0; begin < tiles.size(); begin += output.height) {
    columns.push_back({buffers, tiles.subspan(begin + rows.begin, rows.size())});
  }
  step.kernel->Run(columns);
  if (step.clears_last_halves) {
    ClearLastHalves(targets[0], output, rows.begin, rows.end, value.cell_bytes());
  }
  if (step.clears_row_ends) {
    for (int plane = 0; plane < value.planes(); ++plane) {
      ClearRowEnds(targets[plane], output, rows.begin, rows.end, value.cell_bytes());
    }
  }
}

void Stem::Run(const PhotoInput& photo, RowRange rows, char* memory, char* const* targets) const {
  const bool as_bytes = photo.pixels != nullptr && plan_.from_bytes;
  absl::InlinedVector<const Step*, 4> steps;
  if (as_bytes) steps.push_back(&*plan_.from_bytes);
  for (int i = as_bytes ? plan_.bytes_steps : 0; i < plan_.stem_steps; ++i) {
    steps.push_back(&plan_.steps[i]);
  }
  absl::InlinedVector<Strip, 4> strips;  // what each step reads
  for (const Step* step : steps) {
    const Value& value = plan_.values[step->inputs.front()];
    const bool is_bytes = as_bytes && strips.empty();
    strips.emplace_back(value, is_bytes ? bytes_.rows() : RowRange{0, value.geometry.height},
                        memory);
  }
  const size_t last = steps.size() - 1;
  absl::InlinedVector<RowRange, 4> missing(steps.size() + 1);  // in the strips, and the output
  for (int begin = rows.begin; begin < rows.end; begin += kStripRows) {
    missing.back() = {begin, std::min(rows.end, begin + kStripRows)};
    for (size_t i = steps.size(); i-- > 0;) {
      missing[i] = strips[i].Slide(steps[i]->InputRows(missing[i + 1]));
    }
    char* const first = strips.front().First();
    if (as_bytes) {
      bytes_.Write(photo.pixels, missing[0].begin, missing[0].end, first);
    } else {
      windows_.Write(photo, missing[0].begin, missing[0].end, first, plan_.values.front().element);
    }
    for (size_t i = 0; i < last; ++i) {
      char* const target = strips[i + 1].First();
      RunStep(*steps[i], missing[i + 1], strips[i].First(), &target);
    }
    RunStep(*steps[last], missing.back(), strips[last].First(), targets);
  }
}

}  // namespace dla::cpu
