// The Open Inference Protocol's JSON, with and without binary data behind it.
#include "server/infer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/proto_json.h"

namespace dla::server {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Parsed {
  inference::ModelInferRequest request;
  absl::StatusOr<InferJsonFormat> format;
};
Parsed Parse(const std::string& text, const std::string& binary = "") {
  Parsed parsed;
  parsed.format = ParseInferJson(text + binary, text.size(), parsed.request);
  return parsed;
}
std::string Error(const std::string& text, const std::string& binary = "") {
  return std::string(Parse(text, binary).format.status().message());
}
std::string WithInput(const std::string& members) {
  return R"({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], )" + members + "}]}";
}

TEST(InferJsonTest, ReadsBase64AndNumbersHoweverTheyAreNested) {
  const std::string photo("\xff\xd8\0\x01", 4);
  const Parsed bytes = Parse(WithInput(R"("data": [")" + absl::Base64Escape(photo) + R"("])"));
  ASSERT_TRUE(bytes.format.ok()) << bytes.format.status();
  EXPECT_THAT(bytes.request.inputs(0).contents().bytes_contents(), ElementsAre(photo));

  for (const char* data : {"[1, 2.5, -3, 4e2]", "[[1, 2.5], [-3, 4e2]]"}) {
    const Parsed floats = Parse(absl::StrCat(
        R"({"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 2], "data": )", data,
        "}]}"));
    ASSERT_TRUE(floats.format.ok()) << floats.format.status();
    EXPECT_THAT(floats.request.inputs(0).contents().fp32_contents(), ElementsAre(1, 2.5f, -3, 400));
    EXPECT_THAT(floats.request.inputs(0).shape(), ElementsAre(2, 2));
  }
}

TEST(InferJsonTest, TakesBinaryDataFromBehindTheJson) {
  const Parsed parsed = Parse(WithInput(R"("parameters": {"binary_data_size": 6})"), "sixsix");
  ASSERT_TRUE(parsed.format.ok()) << parsed.format.status();
  EXPECT_THAT(parsed.request.raw_input_contents(), ElementsAre("sixsix"));
  EXPECT_TRUE(parsed.request.inputs(0).parameters().empty());
}

TEST(InferJsonTest, OutputsSayOrInheritWhetherTheyAreBinary) {
  const Parsed parsed = Parse(R"({"outputs": [{"name": "logits"}, {"name": "labels",
                "parameters": {"binary_data": false, "classification": 2}}],
                "parameters": {"binary_data_output": true, "top_k": 3}})");
  ASSERT_TRUE(parsed.format.ok()) << parsed.format.status();
  EXPECT_TRUE(parsed.format->BinaryOf("logits"));
  EXPECT_FALSE(parsed.format->BinaryOf("labels"));
  EXPECT_TRUE(parsed.format->BinaryOf("one that was not named"));
  EXPECT_EQ(parsed.request.parameters().at("top_k").int64_param(), 3);
  EXPECT_EQ(parsed.request.parameters().size(), 1u);
  EXPECT_EQ(parsed.request.outputs(1).parameters().at("classification").int64_param(), 2);
  EXPECT_EQ(parsed.request.outputs(1).parameters().size(), 1u);
}

TEST(InferJsonTest, NamesWhatIsWrong) {
  EXPECT_THAT(Error("{\"inputs\": ["), HasSubstr("no JSON: something is wrong at byte"));
  EXPECT_THAT(Error("[]"), HasSubstr("no object"));
  EXPECT_THAT(Error(R"({"input": []})"), HasSubstr("\"input\""));
  EXPECT_THAT(Error(R"({"inputs": {}})"), HasSubstr("inputs is no array"));
  EXPECT_THAT(Error(R"({"inputs": [1]})"), HasSubstr("no object"));
  EXPECT_THAT(Error(R"({"id": 1})"), HasSubstr("id is no string"));
  EXPECT_THAT(Error(R"({"parameters": {"top_k": [1]}})"), HasSubstr("\"top_k\""));
  EXPECT_THAT(Error(WithInput(R"("data": ["!!!"])")), HasSubstr("no base64"));
  EXPECT_THAT(Error(WithInput(R"("data": [1])")), HasSubstr("no base64"));
  EXPECT_THAT(Error(WithInput(R"("data": [], "parameters": {"binary_data_size": 0})")),
              HasSubstr("too"));
  EXPECT_THAT(Error(WithInput(R"("parameters": {"binary_data_size": 7})"), "sixsix"),
              HasSubstr("6 bytes are left"));
  EXPECT_THAT(Error(WithInput(R"("parameters": {"binary_data_size": -1})"), "sixsix"),
              HasSubstr("-1"));
  EXPECT_THAT(Error(WithInput(R"("parameters": {"binary_data_size": 5})"), "sixsix"),
              HasSubstr("1 bytes that belong to no input"));
  EXPECT_THAT(Error(R"({"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1],)"
                    R"("data": [256]}]})"),
              HasSubstr("no \"UINT8\""));
  EXPECT_THAT(Error(R"({"inputs": [{"name": "image", "datatype": "BYTES", "shape": ["1"]}]})"),
              HasSubstr("whole numbers"));
}

TEST(InferJsonTest, DoesNotFollowEndlessNesting) {
  EXPECT_THAT(Error(WithInput("\"data\": " + std::string(1'000'000, '['))), HasSubstr("deep"));
}

TEST(InferJsonTest, WritesJsonOrBinaryAsTheCallerWants) {
  inference::ModelInferResponse response;
  response.set_id("7");
  response.set_model_name("m");
  auto& labels = *response.add_outputs();
  labels.set_name("labels");
  labels.set_datatype("BYTES");
  labels.add_shape(2);
  response.add_raw_output_contents(std::string("\1\0\0\0a\2\0\0\0bc", 11));
  auto& logits = *response.add_outputs();
  logits.set_name("logits");
  logits.set_datatype("FP32");
  logits.add_shape(1);
  const float value = 0.1f;
  response.add_raw_output_contents(&value, sizeof value);

  const InferJsonBody text = WriteInferJson(response, {});
  EXPECT_EQ(text.json_bytes, text.bytes.size());
  const json all = json::parse(text.bytes);
  EXPECT_EQ(all.at("outputs")[0].at("data"), json({"a", "bc"}));
  EXPECT_EQ(all.at("outputs")[0].at("shape"), json({2}));
  EXPECT_THAT(text.bytes, HasSubstr("[0.1]")) << "as few digits as a float needs";

  const InferJsonBody mixed = WriteInferJson(response, {.outputs = {{"logits", true}}});
  ASSERT_EQ(mixed.bytes.size(), mixed.json_bytes + 4);
  const json header = json::parse(mixed.bytes.substr(0, mixed.json_bytes));
  EXPECT_EQ(header.at("outputs")[1].at("parameters").at("binary_data_size"), 4);
  EXPECT_FALSE(header.at("outputs")[1].contains("data"));
  EXPECT_EQ(mixed.bytes.substr(mixed.json_bytes), response.raw_output_contents(1));
}

TEST(ProtoJsonTest, NumbersStayNumbersAndDefaultsAreShown) {
  inference::ModelStatisticsResponse response;
  auto& stats = *response.add_model_stats();
  stats.set_name("m\xff");
  stats.mutable_inference_stats()->mutable_success()->set_count(1'234'567'890'123);
  const json parsed = json::parse(JsonText(ToJson(response)));
  const json& model = parsed.at("model_stats")[0];
  EXPECT_EQ(model.at("inference_stats").at("success").at("count"), 1'234'567'890'123);
  EXPECT_EQ(model.at("inference_count"), 0);
  EXPECT_FALSE(model.at("inference_stats").contains("fail"));
}

}  // namespace
}  // namespace dla::server
