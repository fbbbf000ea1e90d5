// The int8 tensors of a model folder, as they come from a disk that nobody vouches for.
#include "model/quantized_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "model/checkpoint.h"
#include "model/quantized_source.h"
#include "tests/support/formula_model.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kClasses = 3;

class QuantizedCheckpointTest : public ::testing::Test {
 protected:
  QuantizedCheckpointTest() {
    const std::string source = SerializeSafeTensors(MakeFormulaTensors("dla46x_c", kClasses));
    float_file_ = source;
    float_ = Parse(float_file_);
    std::map<std::string, float> steps;
    for (const std::string& value : ValuesRead(graph_, [](const std::string&) { return true; })) {
      steps[value] = 0.01F * static_cast<float>(steps.size() + 1);
    }
    quantization_ = RoundNetwork(layout_, Source(), input_, steps);
  }

  std::function<std::vector<float>(const std::string&)> SourceFunction() const {
    return [this](const std::string& name) { return ToFloats(*float_.Find(name)); };
  }
  TensorSource Source() { return source_; }

  static SafeTensors Parse(const std::string& file) {
    return SafeTensors::Parse({reinterpret_cast<const uint8_t*>(file.data()), file.size()},
                              "m/model.safetensors")
        .value();
  }

  // What dla-quantize would write, to be spoilt.
  TensorsToWrite Tensors() { return QuantizedTensors(layout_, quantization_, float_); }

  absl::StatusOr<Quantization> Read(const TensorsToWrite& tensors) {
    file_ = SerializeSafeTensors(tensors);
    return ReadQuantization(layout_, Parse(file_), "m/model.safetensors");
  }

  std::string Refusal(const TensorsToWrite& tensors) {
    const absl::Status status = Read(tensors).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("m/model.safetensors"));
    return std::string(status.message());
  }

  std::string RefusalOfScale(float value) {
    std::vector<float> scale = quantization_.convs.at(kConv).scale;
    scale[3] = value;
    TensorsToWrite tensors = Tensors();
    tensors[std::string(kConv) + ".scale"] = ViewOf(scale, {static_cast<int64_t>(scale.size())});
    return Refusal(tensors);
  }

  static constexpr char kConv[] = "level3.tree1.root.conv";

  const NetworkLayout layout_ = MakeLayout(*FindArchitecture("dla46x_c").value(), kClasses);
  const Graph graph_ = MakeGraph(layout_);
  const InputSpec input_;
  std::string float_file_;
  SafeTensors float_;
  const std::function<std::vector<float>(const std::string&)> source_ = SourceFunction();
  Quantization quantization_;
  std::string file_;
};

TEST_F(QuantizedCheckpointTest, ReadsWhatItWrites) {
  const auto found = Read(Tensors());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->steps, quantization_.steps);
  ASSERT_EQ(found->convs.size(), quantization_.convs.size());
  for (const auto& [name, conv] : quantization_.convs) {
    EXPECT_EQ(found->convs.at(name).weight, conv.weight) << name;
    EXPECT_EQ(found->convs.at(name).scale, conv.scale) << name;
    EXPECT_EQ(found->convs.at(name).bias, conv.bias) << name;
  }
}

TEST_F(QuantizedCheckpointTest, KeepsLayersThatStayFloatAsTheyWere) {
  quantization_.convs.erase(kConv);
  const auto read = ValuesRead(
      graph_, [this](const std::string& conv) { return quantization_.convs.contains(conv); });
  std::erase_if(quantization_.steps, [&](const auto& step) { return !read.contains(step.first); });
  const auto found = Read(Tensors());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_FALSE(found->convs.contains(kConv));
  EXPECT_EQ(ToFloats(*Parse(file_).Find("level3.tree1.root.bn.running_var")),
            ToFloats(*float_.Find("level3.tree1.root.bn.running_var")));
}

TEST_F(QuantizedCheckpointTest, RefusesScalesThatAreNoPositiveNumbers) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (float value : {0.0F, -0.0F, -0.1F, NAN, infinity, -infinity, 1e-30F, 1e30F}) {
    EXPECT_THAT(RefusalOfScale(value), AllOf(HasSubstr("\"level3.tree1.root.conv.scale\""),
                                             HasSubstr("from 1e-15 to 1e+15")))
        << value;
  }
}

TEST_F(QuantizedCheckpointTest, RefusesStepsThatAreNoPositiveNumbers) {
  for (const float& value : {0.0F, -1.0F, NAN}) {
    TensorsToWrite tensors = Tensors();
    tensors["level0.0.step"] = ViewOf(value);
    EXPECT_THAT(Refusal(tensors), HasSubstr("\"level0.0.step\"")) << value;
  }
}

TEST_F(QuantizedCheckpointTest, RefusesABiasThatIsNotFinite) {
  std::vector<float> bias = quantization_.convs.at(kConv).bias;
  bias.back() = NAN;
  TensorsToWrite tensors = Tensors();
  tensors[std::string(kConv) + ".bias"] = ViewOf(bias, {static_cast<int64_t>(bias.size())});
  EXPECT_THAT(Refusal(tensors), HasSubstr("\"level3.tree1.root.conv.bias\""));
}

TEST_F(QuantizedCheckpointTest, RefusesScalesOfTheWrongLength) {
  const std::vector<float> scale(5, 1);
  TensorsToWrite tensors = Tensors();
  tensors[std::string(kConv) + ".scale"] = ViewOf(scale, {5});
  EXPECT_THAT(Refusal(tensors), HasSubstr("\"level3.tree1.root.conv.scale\" is [5] and should be "
                                          "[64]"));
}

TEST_F(QuantizedCheckpointTest, RefusesWeightsOfAnotherShape) {
  const std::vector<int8_t> weight(64 * 3, 1);
  TensorsToWrite tensors = Tensors();
  tensors[std::string(kConv) + ".weight"] = ViewOf(weight, {64, 3});
  EXPECT_THAT(Refusal(tensors), HasSubstr("\"level3.tree1.root.conv.weight\" is [64, 3]"));
}

TEST_F(QuantizedCheckpointTest, RefusesAWeightOfMinus128) {
  quantization_.convs.at(kConv).weight[17] = -128;
  EXPECT_THAT(Refusal(Tensors()),
              AllOf(HasSubstr("\"level3.tree1.root.conv.weight\""), HasSubstr("-128")));
}

TEST_F(QuantizedCheckpointTest, NamesStepsAndScalesThatAreMissing) {
  TensorsToWrite tensors = Tensors();
  tensors.erase("level2.project.0.step");
  tensors.erase("level2.tree1.conv1.scale");
  EXPECT_THAT(Refusal(tensors), AllOf(HasSubstr("\"level2.project.0.step\" is missing"),
                                      HasSubstr("\"level2.tree1.conv1.scale\" is missing")));
}

TEST_F(QuantizedCheckpointTest, NamesTensorsThatAreLeftOver) {
  const float step = 1;
  TensorsToWrite tensors = Tensors();
  tensors["level5.root.conv.step"] = ViewOf(step);               // nothing int8 reads it
  tensors["level0.1.weight"] = *float_.Find("level0.1.weight");  // of a BatchNorm that is folded in
  EXPECT_THAT(Refusal(tensors), AllOf(HasSubstr("\"level5.root.conv.step\" is left over"),
                                      HasSubstr("\"level0.1.weight\" is left over")));
}

TEST_F(QuantizedCheckpointTest, ThePhotoNeedsNoStep) {
  const std::vector<float> scale(16, 1);
  TensorsToWrite tensors = Tensors();
  EXPECT_TRUE(tensors.contains("base_layer.0.scale"));
  tensors[".step"] = ViewOf(scale.front());
  EXPECT_THAT(Refusal(tensors), HasSubstr("\".step\" is left over"));
}

TEST_F(QuantizedCheckpointTest, RefusesAFloatCheckpoint) {
  TensorsToWrite tensors;
  for (const auto& [name, tensor] : float_.tensors()) tensors[name] = tensor;
  EXPECT_THAT(Refusal(tensors), HasSubstr("no convolution in I8"));
}

TEST_F(QuantizedCheckpointTest, AFloatReaderNamesInt8TensorsInsteadOfTakingThemForWeights) {
  file_ = SerializeSafeTensors(Tensors());
  const absl::Status status = CheckTensors(layout_, Parse(file_), "m/model.safetensors");
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"base_layer.0.weight\" is [16, 147]"));
}

TEST_F(QuantizedCheckpointTest, ReadsStepsAloneAndRefusesOthers) {
  TensorsToWrite steps;
  for (const auto& [value, step] : quantization_.steps) steps[value + ".step"] = ViewOf(step);
  std::string file = SerializeSafeTensors(steps);
  const auto found = ReadSteps(layout_, Parse(file), "s");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, quantization_.steps);

  steps.erase("level0.0.step");
  file = SerializeSafeTensors(steps);
  EXPECT_THAT(std::string(ReadSteps(layout_, Parse(file), "s").status().message()),
              HasSubstr("\"level0.0.step\" is missing"));
}

TEST_F(QuantizedCheckpointTest, WeightsInFloatAreThoseThatInt8ComputesWith) {
  const QuantizedSource floats(layout_, input_, quantization_, Source());
  const ConvLayout& conv = layout_.stem[1];
  const FoldedConv found = FoldBatchNorm(conv, floats);
  const Int8Conv& int8 = quantization_.convs.at("level0.0");
  EXPECT_EQ(found.bias, int8.bias);
  const float step = quantization_.steps.at("base_layer.0");
  for (size_t i = 0; i < found.weight.size(); ++i) {
    const float expected = static_cast<float>(int8.weight[i]) * int8.scale[i / 144] / step;
    ASSERT_FLOAT_EQ(found.weight[i], expected) << i;
  }
  EXPECT_EQ(floats("fc.bias"), source_("fc.bias"));
}

}  // namespace
}  // namespace dla
