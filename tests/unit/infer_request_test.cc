#include "server/infer_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace dla::server {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMaxPixels = 1000;

// An element of a raw BYTES tensor.
std::string Bytes(const std::string& text) {
  const auto size = static_cast<uint32_t>(text.size());
  std::string raw(sizeof(size), '\0');
  std::memcpy(raw.data(), &size, sizeof(size));
  return raw + text;
}

class InferRequestTest : public ::testing::Test {
 protected:
  InferRequestTest() {
    model_.num_classes = 4;
    model_.embedding_size = 2;
    model_.input.height = 2;
    model_.input.width = 3;
  }

  inference::ModelInferRequest& SetInput(const std::string& name, const std::string& type,
                                         std::initializer_list<int64_t> shape) {
    request_.clear_inputs();
    request_.clear_raw_input_contents();
    auto& input = *request_.add_inputs();
    input.set_name(name);
    input.set_datatype(type);
    input.mutable_shape()->Add(shape.begin(), shape.end());
    return request_;
  }

  inference::ModelInferRequest& SetRaw(const std::string& name, const std::string& type,
                                       std::initializer_list<int64_t> shape,
                                       const std::string& raw) {
    SetInput(name, type, shape).add_raw_input_contents(raw);
    return request_;
  }

  absl::StatusOr<InferTask> Parse() {
    return ParseInferRequest(request_, model_, kMaxPixels, nullptr);
  }

  void ExpectRefusal(const std::string& words) {
    const absl::Status status = Parse().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }

  ModelInfo model_;
  inference::ModelInferRequest request_;
};

TEST_F(InferRequestTest, TakesEncodedPhotosRawAndTyped) {
  SetRaw("image", "BYTES", {2}, Bytes("one") + Bytes("two!"));
  absl::StatusOr<InferTask> task = Parse();
  ASSERT_TRUE(task.ok()) << task.status();
  ASSERT_EQ(task->photos.size(), 2u);
  EXPECT_EQ(std::get<EncodedPhoto>(task->photos[1]).bytes, "two!");
  EXPECT_FALSE(task->typed);

  SetInput("image", "BYTES", {1, 1}).mutable_inputs(0)->mutable_contents()->add_bytes_contents("x");
  task = Parse();
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(std::get<EncodedPhoto>(task->photos[0]).bytes, "x");
  EXPECT_TRUE(task->typed);
}

TEST_F(InferRequestTest, TakesPixelsRawAndTyped) {
  SetRaw("pixels", "UINT8", {2, 1, 2, 3}, "abcdefghijkl");
  absl::StatusOr<InferTask> task = Parse();
  ASSERT_TRUE(task.ok()) << task.status();
  const RawPhoto photo = std::get<RawPhoto>(task->photos[1]);
  EXPECT_EQ(photo.pixels, "ghijkl");
  EXPECT_EQ(photo.height, 1);
  EXPECT_EQ(photo.width, 2);

  auto& contents = *SetInput("pixels", "UINT8", {1, 1, 1, 3}).mutable_inputs(0)->mutable_contents();
  for (const unsigned char value : {'r', 'g', 'b'}) contents.add_uint_contents(value);
  task = Parse();
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(std::get<RawPhoto>(task->photos[0]).pixels, "rgb");
  contents.set_uint_contents(1, 256);
  ExpectRefusal("256");
}

TEST_F(InferRequestTest, TakesNormalizedPhotosOfTheNetworksSizeAlone) {
  SetRaw("input", "FP32", {1, 3, 2, 3}, std::string(72, 'x'));
  absl::StatusOr<InferTask> task = Parse();
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(std::get<NormalizedPhoto>(task->photos[0]).values.size(), 72u);
  SetRaw("input", "FP32", {1, 3, 3, 2}, std::string(72, 'x'));
  ExpectRefusal("[n, 3, 2, 3]");
}

TEST_F(InferRequestTest, RefusesContentsThatDoNotFitTheShape) {
  SetRaw("image", "BYTES", {2}, Bytes("one"));
  ExpectRefusal("ends before element 1 of 2");
  SetRaw("image", "BYTES", {1}, Bytes("one") + "more");
  ExpectRefusal("4 bytes beyond");
  SetRaw("image", "BYTES", {1}, std::string("\xff\xff\xff\xff", 4) + "x");
  ExpectRefusal("4294967295");
  SetRaw("pixels", "UINT8", {1, 2, 2, 3}, "short");
  ExpectRefusal("needs 12 bytes");
  SetRaw("input", "FP32", {2, 3, 2, 3}, std::string(72, 'x'));
  ExpectRefusal("needs 144 bytes");
  SetInput("image", "BYTES", {2}).mutable_inputs(0)->mutable_contents()->add_bytes_contents("x");
  ExpectRefusal("needs 2 elements");
}

TEST_F(InferRequestTest, RefusesShapesWhoseProductsOverflow) {
  constexpr int64_t kHuge = int64_t{1} << 40;
  for (const auto& shape : {std::initializer_list<int64_t>{kHuge, kHuge, kHuge, 3},
                            {1, kHuge, kHuge, 3},
                            {-1, 2, 2, 3},
                            {1, -2, -2, 3},
                            {0, 2, 2, 3},
                            {1, 1000, 1000, 3}}) {
    SetRaw("pixels", "UINT8", shape, "");
    ExpectRefusal("shape");
  }
  SetRaw("image", "BYTES", {kHuge}, "");
  ExpectRefusal("1 to 256 photos");
}

TEST_F(InferRequestTest, RefusesOtherThanOneInputAndOneRepresentation) {
  SetRaw("image", "BYTES", {1}, Bytes("x")).add_inputs();
  ExpectRefusal("exactly one of");
  SetRaw("image", "BYTES", {1}, Bytes("x"));
  request_.mutable_inputs(0)->mutable_contents()->add_bytes_contents("x");
  ExpectRefusal("send one of them");
  SetRaw("image", "BYTES", {1}, Bytes("x"));
  request_.add_raw_input_contents("");
  ExpectRefusal("2 entries for 1 input");
  SetRaw("photo\n", "BYTES", {1}, Bytes("x"));
  ExpectRefusal("\"photo\\n\"");
  SetRaw("image", "UINT8", {1}, Bytes("x"));
  ExpectRefusal("it takes BYTES");
}

TEST_F(InferRequestTest, ComputesOnlyWhatTheOutputsNeed) {
  SetRaw("image", "BYTES", {1}, Bytes("x"));
  request_.add_outputs()->set_name("embedding");
  absl::StatusOr<InferTask> task = Parse();
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_TRUE(task->options.include_embedding);
  EXPECT_FALSE(task->options.include_logits);
  EXPECT_FALSE(task->options.include_probabilities);
  EXPECT_EQ(task->options.top_k, 0);

  request_.clear_outputs();
  auto& classes = *request_.add_outputs();
  classes.set_name("probabilities");
  (*classes.mutable_parameters())["classification"].set_int64_param(3);
  task = Parse();
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->options.top_k, 3);
  EXPECT_FALSE(task->options.include_probabilities);
  (*classes.mutable_parameters())["classification"].set_int64_param(1 << 20);
  EXPECT_EQ(Parse()->options.top_k, 4);  // all there are, as Triton does
}

TEST_F(InferRequestTest, ReadsThePriorityAsTritonCountsIt) {
  SetRaw("image", "BYTES", {1}, Bytes("x"));
  EXPECT_EQ(Parse()->priority, Priority::kInteractive);
  auto& priority = (*request_.mutable_parameters())["priority"];
  for (const int value : {0, 1, 2}) {
    priority.set_uint64_param(value);
    EXPECT_EQ(Parse()->priority, value == 2 ? Priority::kBulk : Priority::kInteractive);
  }
  priority.set_uint64_param(3);
  ExpectRefusal("\"priority\" is not from 0 to 2");
}

TEST_F(InferRequestTest, RefusesWhatMeansNothingByName) {
  SetRaw("image", "BYTES", {1}, Bytes("x"));
  (*request_.mutable_parameters())["top_k"].set_int64_param(5);
  ExpectRefusal("\"top_k\" is not from 0 to 4");
  (*request_.mutable_parameters())["top_k"].set_string_param("5");
  ExpectRefusal("not a whole number");
  (*request_.mutable_parameters())["top_k"].set_uint64_param(~uint64_t{0});
  ExpectRefusal("top_k");
  request_.clear_parameters();
  (*request_.mutable_parameters())["colour"].set_bool_param(true);
  ExpectRefusal("colour");
  request_.clear_parameters();
  request_.add_outputs()->set_name("score");
  ExpectRefusal("score");
  request_.mutable_outputs(0)->set_name("labels");
  (*request_.mutable_outputs(0)->mutable_parameters())["classification"].set_int64_param(1);
  ExpectRefusal("labels");
  request_.mutable_outputs(0)->clear_parameters();
  request_.add_outputs()->set_name("labels");
  ExpectRefusal("twice");
  request_.clear_outputs();
  auto& shared = (*request_.mutable_inputs(0)->mutable_parameters())["shared_memory_region"];
  shared.set_string_param("photos");
  ExpectRefusal("--allow-shared-memory");
}

}  // namespace
}  // namespace dla::server
