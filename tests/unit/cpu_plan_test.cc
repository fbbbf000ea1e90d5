#include "model/cpu/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/architecture.h"
#include "model/cpu/stem.h"
#include "model/graph.h"
#include "model/layout.h"
#include "tests/support/formula_model.h"
#include "tests/support/variants.h"

namespace dla::cpu {
namespace {

Plan MakeTestPlan(absl::string_view variant, int height, int width) {
  const FormulaTensors tensors = MakeFormulaTensors(variant, 3);
  auto source = [&](const std::string& name) {
    const std::vector<uint8_t>& bytes = tensors.at(name).bytes;
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  return MakePlan(MakeLayout(**FindArchitecture(variant), 3), source, height, width,
                  Avx512Kernels());
}

// In int8, all steps 1 and all weights 0: neither changes where things lie.
Plan MakeInt8TestPlan(absl::string_view variant, int height, int width) {
  const NetworkLayout layout = MakeLayout(**FindArchitecture(variant), 3);
  const FormulaTensors tensors = MakeFormulaTensors(variant, 3);
  const Graph graph = MakeGraph(layout);
  Quantization quantization;
  for (const GraphValue& value : graph.values) quantization.steps[value.name] = 1;
  for (const GraphOp& op : graph.ops) {
    if (op.kind != GraphOp::Kind::kConv) continue;
    const ConvLayout& conv = op.conv;
    const size_t outputs = conv.out_channels;
    quantization.convs[conv.conv] = {
        std::vector<int8_t>(outputs * conv.in_channels / conv.groups * conv.kernel * conv.kernel),
        std::vector<float>(outputs, 1), std::vector<float>(outputs)};
  }
  auto source = [&](const std::string& name) {
    const std::vector<uint8_t>& bytes = tensors.at(name).bytes;
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  return MakeInt8Plan(layout, source, quantization, {.height = height, .width = width},
                      VnniInt8Kernels());
}

class CpuPlanTest : public ::testing::TestWithParam<std::string> {};

void CheckThatNothingIsOverwritten(const Plan& plan) {
  const auto steps = static_cast<int>(plan.steps.size());
  auto bytes = [&](const Value& v) { return v.planes() * v.plane_bytes(); };
  // Whoever writes a value must not write into one that is still to be read.
  std::vector<int> last(plan.values.size(), -1);
  for (int i = 0; i < steps; ++i) {
    for (int input : plan.steps[i].inputs) last[input] = i;
    if (plan.steps[i].residual >= 0) last[plan.steps[i].residual] = i;
  }
  last[plan.output] = steps;
  std::vector<int> alive;
  for (int i = plan.stem_steps - 1; i < steps; ++i) {
    const Value& written = plan.values[plan.steps[i].output];
    for (int value : alive) {
      const Value& other = plan.values[value];
      if (other.brief != written.brief) continue;  // other memory
      if (last[value] < i) continue;
      EXPECT_TRUE(written.offset >= other.offset + bytes(other) ||
                  other.offset >= written.offset + bytes(written))
          << "step " << i << " overwrites value " << value;
    }
    EXPECT_LE(written.offset + bytes(written), written.brief ? plan.brief_bytes : plan.photo_bytes);
    alive.push_back(plan.steps[i].output);
  }
}

TEST_P(CpuPlanTest, ValuesThatAreNeededAtTheSameTimeDoNotOverlap) {
  CheckThatNothingIsOverwritten(MakeTestPlan(GetParam(), 63, 96));
  CheckThatNothingIsOverwritten(MakeInt8TestPlan(GetParam(), 63, 96));
}

TEST_P(CpuPlanTest, StripsDoNotOverlapAndHoldWhatTheStemReads) {
  const Plan plan = MakeTestPlan(GetParam(), 63, 96);
  int64_t end = 0;
  for (int i = 0; i < plan.stem_steps; ++i) {
    SCOPED_TRACE(i);
    const Step& step = plan.steps[i];
    const bool is_last = i + 1 == plan.stem_steps;
    const Value& input = plan.values[step.inputs.front()];
    const Value& output = plan.values[step.output];
    EXPECT_EQ(input.planes(), 1);
    EXPECT_EQ(output.strip_rows > 0, !is_last);
    const int written = is_last ? kStripRows : output.strip_rows;
    EXPECT_GE(input.strip_rows, (written - 1) * step.row_step + 2 * step.rows_below + 1);
  }
  // In any order.
  std::vector<std::pair<int64_t, int64_t>> strips;
  for (const Value& value : plan.values) {
    if (value.strip_rows == 0) continue;
    const int64_t cells = 1 + value.strip_rows * value.geometry.pitch();
    strips.emplace_back(value.offset, value.offset + cells * CellBytes(plan.element));
  }
  std::sort(strips.begin(), strips.end());
  for (const auto& [begin, stop] : strips) {
    EXPECT_GE(begin, end);
    end = stop;
  }
  EXPECT_LE(end, plan.strip_bytes);
}

TEST_P(CpuPlanTest, TheStemsTilesAreOfOneRowAndComeInColumns) {
  const Plan plan = MakeTestPlan(GetParam(), 63, 95);
  for (int i = 0; i < plan.stem_steps; ++i) {
    SCOPED_TRACE(i);
    const Step& step = plan.steps[i];
    const PlaneGeometry& input = plan.values[step.inputs.front()].geometry;
    const PlaneGeometry& output = plan.values[step.output].geometry;
    ASSERT_EQ(step.tiles.size() % output.height, 0);
    for (size_t t = 0; t < step.tiles.size(); ++t) {
      const PixelTile& tile = step.tiles[t];
      const int row = static_cast<int>(t) % output.height;
      EXPECT_EQ(tile.target / output.pitch(), row);
      EXPECT_EQ(tile.source / input.pitch(), row * step.row_step);
      EXPECT_EQ((tile.target + std::bit_width(tile.valid) - 1) / output.pitch(), row);
      EXPECT_EQ(tile.border, 0);
    }
  }
}

TEST_P(CpuPlanTest, BriefValuesAreNotReadAfterThePhotoSteps) {
  const Plan plan = MakeTestPlan(GetParam(), 224, 224);
  for (int i = plan.photo_steps; i < static_cast<int>(plan.steps.size()); ++i) {
    for (int input : plan.steps[i].inputs) EXPECT_FALSE(plan.values[input].brief) << i;
    const int residual = plan.steps[i].residual;
    EXPECT_FALSE(residual >= 0 && plan.values[residual].brief) << i;
  }
  EXPECT_FALSE(plan.values[plan.output].brief);
}

TEST_P(CpuPlanTest, TilesCoverEveryPixelOfAConvolutionsOutput) {
  const Plan plan = MakeTestPlan(GetParam(), 95, 160);
  for (const Step& step : plan.steps) {
    if (step.kind != Step::Kind::kConv) continue;
    const PlaneGeometry& output = plan.values[step.output].geometry;
    if (step.tiles_are_blocks) {
      // Blocks have no border between their rows.
      const int blocks = ((output.height + 1) / 2) * ((output.width + 1) / 2);
      int covered = 0;
      for (const PixelTile& tile : step.tiles) {
        EXPECT_EQ(tile.source, covered);
        covered += std::popcount(tile.valid);
      }
      EXPECT_EQ(covered, blocks);
      continue;
    }
    std::vector<bool> covered(output.height * output.pitch());
    for (const PixelTile& tile : step.tiles) {
      for (int i = 0; i < 16; ++i) {
        if (tile.valid >> i & 1) covered.at(tile.target + i) = true;
        const bool is_between_rows = (tile.target + i) % output.pitch() == output.width;
        EXPECT_TRUE((tile.border >> i & 1) == 0 || is_between_rows);
      }
    }
    for (int pixel = 0; pixel < static_cast<int>(covered.size()); ++pixel) {
      EXPECT_TRUE(covered[pixel] || pixel % output.pitch() == output.width) << pixel;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, CpuPlanTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace dla::cpu
