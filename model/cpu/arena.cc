#include "model/cpu/arena.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "model/cpu/plan.h"
#include "model/cpu/stem.h"

namespace dla::cpu {
namespace {

// A value is alive from the step that writes it to the last one that reads it, both included.
struct Life {
  int value;
  int first = 0;
  int last = 0;

  bool Overlaps(const Life& other) const { return first <= other.last && other.first <= last; }
};

std::vector<Life> FindLives(const Plan& plan) {
  std::vector<Life> lives;
  for (int value = 0; value < static_cast<int>(plan.values.size()); ++value) {
    lives.push_back({value});
  }
  for (int i = 0; i < static_cast<int>(plan.steps.size()); ++i) {
    const Step& step = plan.steps[i];
    lives[step.output].first = lives[step.output].last = i;
    for (int input : step.inputs) lives[input].last = i;
    if (step.residual >= 0) lives[step.residual].last = i;
  }
  lives[plan.output].last = static_cast<int>(plan.steps.size());
  return lives;
}

int64_t Bytes(const Plan& plan, int value) {
  const Value& v = plan.values[value];
  return v.planes() * v.plane_bytes();
}

// Puts each in the lowest gap that is free for all of its life, the largest first, and returns the
// bytes that they take together.
int64_t Place(std::vector<Life> lives, Plan& plan) {
  std::stable_sort(lives.begin(), lives.end(), [&](const Life& a, const Life& b) {
    return Bytes(plan, a.value) > Bytes(plan, b.value);
  });
  std::vector<Life> placed;  // in the order of their offsets
  int64_t total = 0;
  for (const Life& life : lives) {
    const int64_t bytes = Bytes(plan, life.value);
    int64_t offset = 0;
    for (const Life& other : placed) {
      if (!other.Overlaps(life)) continue;
      const int64_t begin = plan.values[other.value].offset;
      if (offset + bytes <= begin) break;
      offset = std::max(offset, begin + Bytes(plan, other.value));
    }
    plan.values[life.value].offset = offset;
    total = std::max(total, offset + bytes);
    const auto after = [&](int64_t at, const Life& other) {
      return at < plan.values[other.value].offset;
    };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset, after), life);
  }
  return total;
}

// What a step of the stem reads for these rows of its output, behind all strips so far. Returns the
// rows.
RowRange PlaceStrip(const Step& step, RowRange rows, Plan& plan) {
  Value& value = plan.values[step.inputs.front()];
  rows = step.InputRows(rows);
  value.strip_rows = rows.size();
  value.offset = plan.strip_bytes;
  // Zeros before the first row; tiles read up to two rows and 32 pixels beyond the last one.
  const PlaneGeometry& geometry = value.geometry;
  const int64_t cells = geometry.left + int64_t{rows.size() + 2} * geometry.pitch() + 32;
  plan.strip_bytes += (cells * value.cell_bytes() + 63) / 64 * 64;
  return rows;
}

// The first strip takes the most rows: it keeps none of an earlier one.
void PlaceStrips(Plan& plan) {
  RowRange rows{0, kStripRows};
  for (int i = plan.stem_steps - 1; i >= 0; --i) {
    if (plan.from_bytes && i + 1 == plan.bytes_steps) PlaceStrip(*plan.from_bytes, rows, plan);
    rows = PlaceStrip(plan.steps[i], rows, plan);
  }
}

}  // namespace

void PlaceValues(Plan& plan) {
  PlaceStrips(plan);
  std::vector<Life> brief;
  std::vector<Life> others;
  for (const Life& life : FindLives(plan)) {
    if (plan.values[life.value].strip_rows > 0) continue;
    plan.values[life.value].brief = life.last < plan.photo_steps;
    (plan.values[life.value].brief ? brief : others).push_back(life);
  }
  plan.brief_bytes = Place(std::move(brief), plan);
  plan.photo_bytes = Place(std::move(others), plan);
}

}  // namespace dla::cpu
