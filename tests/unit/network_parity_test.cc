// Every variant answers as timm does. The expected values and how they came about:
// tests/golden/make_network_golden.py.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "model/architecture.h"
#include "model/dla_model.h"
#include "model/safetensors.h"
#include "model/threads.h"
#include "tests/support/formula_model.h"
#include "tests/support/temp_dir.h"

namespace dla {
namespace {

constexpr int kSize = 224;
constexpr double kFp32Tolerance = 1e-5;
constexpr double kBf16Tolerance = 2e-2;

class NetworkParityTest : public ::testing::TestWithParam<std::string> {
 protected:
  // Threads that wait for each other cost more than they bring where CTest runs tests in parallel.
  static void SetUpTestSuite() { UseThreads(1); }

  static std::vector<float> Expected(const SafeTensors& file, absl::string_view what) {
    const TensorView* tensor = file.Find(absl::StrCat(GetParam(), ".", what));
    std::vector<float> values(tensor->bytes.size() / sizeof(float));
    std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
    return values;
  }
};

TEST_P(NetworkParityTest, AnswersAsTimmDoes) {
  const SafeTensors expected =
      SafeTensors::Open(DLA_TEST_GOLDEN "/network/expected.safetensors").value();
  const std::vector<float> logits = Expected(expected, "logits");
  const std::vector<float> embeddings = Expected(expected, "embedding");
  const int num_classes = static_cast<int>(logits.size() / 2);
  int64_t parameters;
  std::memcpy(&parameters, expected.Find(GetParam() + ".parameters")->bytes.data(), 8);
  // A tolerance says nothing unless it tells the two photos apart.
  const absl::Span<const float> all = logits;
  ASSERT_GT(RelativeL2(all.first(num_classes), all.last(num_classes)), 10 * kBf16Tolerance);

  const dla::testing::TempDir folder;
  WriteModelFolder(folder.Path(), MakeConfigJson(GetParam(), num_classes, kSize, kSize),
                   MakeFormulaTensors(GetParam(), num_classes));
  const auto photo0 = MakeFormulaPhoto("photo0", kSize, kSize);
  const auto photo1 = MakeFormulaPhoto("photo1", kSize, kSize);

  for (const Engine engine : {Engine::kFast, Engine::kReference}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const auto model =
          LoadModel(folder.Path(), {.device = "cpu", .precision = precision, .engine = engine});
      if (model.status().code() == absl::StatusCode::kUnimplemented) {
        std::printf("%s\n", std::string(model.status().message()).c_str());
        continue;
      }
      ASSERT_TRUE(model.ok()) << model.status();
      EXPECT_EQ((*model)->info().parameters, parameters);
      BatchOutput output;
      const absl::Status status = (*model)->Run({photo0.data(), photo1.data()}, output);
      ASSERT_TRUE(status.ok()) << status;

      const double logits_error = RelativeL2(output.logits, logits);
      const double embedding_error = RelativeL2(output.embeddings, embeddings);
      const char* engine_name = engine == Engine::kFast ? "fast" : "reference";
      std::printf("%-15s %-9s %s: logits %.1e, embedding %.1e\n", GetParam().c_str(), engine_name,
                  (*model)->info().precision.c_str(), logits_error, embedding_error);
      const double tolerance = precision == Precision::kFp32 ? kFp32Tolerance : kBf16Tolerance;
      EXPECT_LE(logits_error, tolerance) << engine_name;
      EXPECT_LE(embedding_error, tolerance) << engine_name;
    }
  }
}

std::vector<std::string> Variants() {
  std::vector<std::string> names;
  for (const Architecture& architecture : AllArchitectures()) {
    names.emplace_back(architecture.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(, NetworkParityTest, ::testing::ValuesIn(Variants()),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace dla
