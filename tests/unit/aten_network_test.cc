#include "model/aten_network.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "model/threads.h"
#include "tests/support/formula_model.h"
#include "tests/support/variants.h"

namespace dla {
namespace {

// Plain ATen, but roots read their inputs joined, as on CUDA devices.
class JoiningBackend final : public Backend {
 public:
  at::ScalarType dtype() const override { return plain_->dtype(); }
  at::MemoryFormat memory_format() const override { return plain_->memory_format(); }
  std::unique_ptr<const FusedConv> Pack(const ConvWeights& weights, MapSize size) const override {
    return plain_->Pack(weights, size);
  }
  at::Tensor MaxPool2x2(const at::Tensor& x) const override { return plain_->MaxPool2x2(x); }
  bool joins() const override { return true; }

 private:
  const std::unique_ptr<const Backend> plain_ = MakeReferenceBackend(at::kFloat);
};

class AtenNetworkTest : public ::testing::TestWithParam<std::string> {};

TEST_P(AtenNetworkTest, JoinedRootsGiveWhatTheirPartsAddUpTo) {
  UseThreads(1);
  constexpr int kClasses = 7;
  const NetworkLayout layout = MakeLayout(**FindArchitecture(GetParam()), kClasses);
  const FormulaTensors tensors = MakeFormulaTensors(GetParam(), kClasses);
  auto source = [&](const std::string& name) {
    const FormulaTensor& tensor = tensors.at(name);
    const auto* const values = reinterpret_cast<const float*>(tensor.bytes.data());
    return std::vector<float>(values, values + tensor.bytes.size() / sizeof(float));
  };
  InputSpec input;
  input.height = 64;
  input.width = 96;
  const AtenNetwork parts(layout, source, input, MakeReferenceBackend(at::kFloat));
  const AtenNetwork joined(layout, source, input, std::make_unique<JoiningBackend>());
  const std::vector<uint8_t> first = MakeFormulaPhoto("first", 64, 96);
  const std::vector<uint8_t> second = MakeFormulaPhoto("second", 64, 96);
  struct Result {
    std::vector<float> logits, embeddings;
  };
  auto run = [&](const AtenNetwork& network) {
    Result result{std::vector<float>(2 * kClasses), std::vector<float>(2 * layout.embedding_size)};
    network.Run({first.data(), second.data()}, result.logits.data(), result.embeddings.data());
    return result;
  };
  const Result expected = run(parts);
  const Result found = run(joined);
  EXPECT_LE(RelativeL2(found.logits, expected.logits), 1e-5);
  EXPECT_LE(RelativeL2(found.embeddings, expected.embeddings), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Variants, AtenNetworkTest, ::testing::ValuesIn(VariantsToTest()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace dla
