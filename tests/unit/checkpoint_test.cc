#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "tests/support/formula_model.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kClasses = 3;

class CheckpointTest : public ::testing::Test {
 protected:
  static NetworkLayout Layout() {
    return MakeLayout(*FindArchitecture("dla46x_c").value(), kClasses);
  }

  absl::Status Tensors() {
    file_ = SerializeSafeTensors(tensors_);
    return CheckTensors(Layout(), Parse(), "m/model.safetensors");
  }

  absl::Status Values() {
    const absl::Status fits = Tensors();
    EXPECT_TRUE(fits.ok()) << fits;
    return CheckValues(Layout(), Parse(), "m/model.safetensors");
  }

  SafeTensors Parse() {
    auto parsed = SafeTensors::Parse({reinterpret_cast<const uint8_t*>(file_.data()), file_.size()},
                                     "m/model.safetensors");
    return parsed.value();
  }

  // Overwrites an element in the middle.
  template <typename T>
  void Set(const std::string& name, T value) {
    auto& bytes = tensors_.at(name).bytes;
    std::memcpy(bytes.data() + bytes.size() / sizeof(T) / 2 * sizeof(T), &value, sizeof(value));
  }

  FormulaTensors tensors_ = MakeFormulaTensors("dla46x_c", kClasses);
  std::string file_;
};

std::string Refusal(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("m/model.safetensors"));
  return std::string(status.message());
}

TEST_F(CheckpointTest, TakesWhatTimmWrites) {
  EXPECT_TRUE(Tensors().ok()) << Tensors();
  EXPECT_TRUE(Values().ok()) << Values();
}

TEST_F(CheckpointTest, DoesNotNeedTheCounters) {
  std::erase_if(tensors_, [](const auto& item) { return item.second.dtype == DType::kI64; });
  EXPECT_TRUE(Tensors().ok()) << Tensors();
}

TEST_F(CheckpointTest, NamesWhatIsMissing) {
  tensors_.erase("level2.root.bn.bias");
  EXPECT_THAT(Refusal(Tensors()),
              AllOf(HasSubstr("\"level2.root.bn.bias\" is missing"), HasSubstr("dla46x_c"),
                    HasSubstr("3 classes"), Not(HasSubstr("more"))));
}

TEST_F(CheckpointTest, NamesWhatIsLeftOver) {
  tensors_["level3.project.0.weight"] = MakeFormulaTensor("x", {64, 64, 1, 1});
  EXPECT_THAT(Refusal(Tensors()), HasSubstr("\"level3.project.0.weight\" is left over"));
}

TEST_F(CheckpointTest, NamesWhatHasAnotherShape) {
  tensors_["fc.weight"] = MakeFormulaTensor("fc.weight", {1000, 256, 1, 1});
  EXPECT_THAT(Refusal(Tensors()),
              HasSubstr("\"fc.weight\" is [1000, 256, 1, 1] and should be [3, 256, 1, 1]"));
}

TEST_F(CheckpointTest, NamesAWeightOfIntegers) {
  tensors_["fc.bias"] = {DType::kI64, {3}, std::vector<uint8_t>(24)};
  EXPECT_THAT(Refusal(Tensors()), HasSubstr("\"fc.bias\" is I64"));
}

TEST_F(CheckpointTest, NamesFiveAndCountsTheRest) {
  tensors_.clear();
  tensors_["a"] = MakeFormulaTensor("a", {1});
  const size_t missing = ListTensors(Layout()).size();
  EXPECT_THAT(Refusal(Tensors()), AllOf(HasSubstr("\"base_layer.0.weight\" is missing"),
                                        HasSubstr("\"base_layer.1.running_var\" is missing; and " +
                                                  std::to_string(missing + 1 - 5) + " more"),
                                        Not(HasSubstr("level0"))));
}

TEST_F(CheckpointTest, NamesTheTensorWithAnInfinityOrNaN) {
  Set("level1.0.weight", std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(Refusal(Values()), HasSubstr("\"level1.0.weight\" holds an infinity or NaN"));
  Set("level0.0.weight", -std::numeric_limits<float>::infinity());
  EXPECT_THAT(Refusal(Values()), HasSubstr("\"level0.0.weight\" holds an infinity or NaN"));
}

TEST_F(CheckpointTest, NamesTheNegativeVariance) {
  Set("base_layer.1.running_mean", -1.0f);
  Set("base_layer.1.running_var", -0.0f);
  EXPECT_TRUE(Values().ok()) << Values();
  Set("base_layer.1.running_var", -1e-6f);
  EXPECT_THAT(Refusal(Values()), HasSubstr("\"base_layer.1.running_var\" holds a negative"));
}

TEST_F(CheckpointTest, LooksIntoHalfPrecision) {
  tensors_ = MakeFormulaTensors("dla46x_c", kClasses, DType::kF16);
  EXPECT_TRUE(Values().ok()) << Values();
  Set<uint16_t>("fc.weight", 0x7bff);  // 65504, the largest
  EXPECT_TRUE(Values().ok()) << Values();
  Set<uint16_t>("fc.weight", 0x7c00);  // infinity
  EXPECT_THAT(Refusal(Values()), HasSubstr("\"fc.weight\" holds an infinity"));

  tensors_ = MakeFormulaTensors("dla46x_c", kClasses, DType::kBF16);
  EXPECT_TRUE(Values().ok()) << Values();
  Set<uint16_t>("level5.root.bn.running_var", 0xbf80);  // -1
  EXPECT_THAT(Refusal(Values()), HasSubstr("\"level5.root.bn.running_var\" holds a negative"));
  Set<uint16_t>("level5.root.bn.running_var", 0xff80);  // -infinity
  EXPECT_THAT(Refusal(Values()), HasSubstr("\"level5.root.bn.running_var\" holds an infinity"));
}

}  // namespace
}  // namespace dla
