#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/safetensors_writer.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<uint8_t> File(uint64_t header_size, absl::string_view rest) {
  std::vector<uint8_t> file;
  for (int i = 0; i < 8; ++i) file.push_back(header_size >> (8 * i) & 0xff);
  file.insert(file.end(), rest.begin(), rest.end());
  return file;
}

std::vector<uint8_t> File(absl::string_view header, size_t data_size) {
  return File(header.size(), absl::StrCat(header, std::string(data_size, 'x')));
}

// The message with which these bytes are refused; the test fails if they are not.
std::string Refusal(absl::Span<const uint8_t> bytes) {
  const absl::Status status = SafeTensors::Parse(bytes, "a.safetensors").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::StartsWith("a.safetensors: "));
  return std::string(status.message());
}

std::string Refusal(absl::string_view header, size_t data_size) {
  return Refusal(File(header, data_size));
}

// One tensor named w, described so, in a file with so much data.
std::string TensorRefusal(absl::string_view description, size_t data_size) {
  std::string message = Refusal(absl::StrCat("{\"w\":", description, "}"), data_size);
  EXPECT_THAT(message, HasSubstr("tensor \"w\": "));
  return message;
}

float FloatAt(const TensorView& tensor, size_t index) {
  float value;
  std::memcpy(&value, tensor.bytes.data() + index * sizeof(value), sizeof(value));
  return value;
}

TEST(SafeTensorsTest, ReadsWhatThePythonLibraryWrites) {
  auto file = SafeTensors::Open(DLA_TEST_GOLDEN "/formats/tiny.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  const SafeTensors moved = *std::move(file);  // the mapping goes with it
  EXPECT_EQ(moved.tensors().size(), 5u);

  const TensorView* weight = moved.Find("layer.weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->dtype, DType::kF32);
  EXPECT_THAT(weight->shape, ElementsAre(2, 3));
  ASSERT_EQ(weight->bytes.size(), 24u);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(FloatAt(*weight, i), i / 4.0f);

  const TensorView* half = moved.Find("layer.half");
  ASSERT_NE(half, nullptr);
  EXPECT_EQ(half->dtype, DType::kF16);
  EXPECT_THAT(half->bytes, ElementsAre(0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38));  // 1, -2, 0.5

  const TensorView* bfloat = moved.Find("layer.bfloat");
  ASSERT_NE(bfloat, nullptr);
  EXPECT_EQ(bfloat->dtype, DType::kBF16);
  EXPECT_THAT(bfloat->bytes, ElementsAre(0x80, 0x3f, 0x00, 0xc0));  // 1, -2

  const TensorView* scalar = moved.Find("layer.num_batches_tracked");
  ASSERT_NE(scalar, nullptr);
  EXPECT_EQ(scalar->dtype, DType::kI64);
  EXPECT_THAT(scalar->shape, IsEmpty());
  EXPECT_THAT(scalar->bytes, ElementsAre(7, 0, 0, 0, 0, 0, 0, 0));

  const TensorView* empty = moved.Find("layer.empty");
  ASSERT_NE(empty, nullptr);
  EXPECT_THAT(empty->shape, ElementsAre(0, 4));
  EXPECT_THAT(empty->bytes, IsEmpty());

  EXPECT_EQ(moved.Find("layer"), nullptr);
}

TEST(SafeTensorsTest, SpellsDTypesAsTheFormatDoes) {
  EXPECT_EQ(DTypeName(DType::kF32), "F32");
  EXPECT_EQ(DTypeName(DType::kF16), "F16");
  EXPECT_EQ(DTypeName(DType::kBF16), "BF16");
  EXPECT_EQ(DTypeName(DType::kI64), "I64");
  EXPECT_EQ(DTypeName(DType::kI8), "I8");
  EXPECT_EQ(DTypeBytes(DType::kI8), 1u);
  EXPECT_EQ(DTypeBytes(DType::kF32), 4u);
  EXPECT_EQ(DTypeBytes(DType::kF16), 2u);
  EXPECT_EQ(DTypeBytes(DType::kBF16), 2u);
  EXPECT_EQ(DTypeBytes(DType::kI64), 8u);
}

TEST(SafeTensorsTest, ReadsBackWhatItWrites) {
  const std::vector<float> floats = {1, -2.5F, 3};
  const std::vector<int8_t> bytes = {-127, 0, 127, 5};
  const float scalar = 0.25F;
  const std::string file = SerializeSafeTensors({{"a \"quoted\" name", ViewOf(bytes, {2, 2})},
                                                 {"floats", ViewOf(floats, {3})},
                                                 {"none", ViewOf(std::vector<float>(), {0, 4})},
                                                 {"scalar", ViewOf(scalar)}});
  const auto found =
      SafeTensors::Parse({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "f");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->tensors().size(), 4u);
  const TensorView* quoted = found->Find("a \"quoted\" name");
  ASSERT_NE(quoted, nullptr);
  EXPECT_EQ(quoted->dtype, DType::kI8);
  EXPECT_THAT(quoted->shape, ElementsAre(2, 2));
  EXPECT_THAT(quoted->bytes, ElementsAre(129, 0, 127, 5));
  EXPECT_EQ(FloatAt(*found->Find("floats"), 1), -2.5F);
  EXPECT_THAT(found->Find("scalar")->shape, IsEmpty());
  EXPECT_EQ(FloatAt(*found->Find("scalar"), 0), 0.25F);
  EXPECT_THAT(found->Find("none")->bytes, IsEmpty());
  uint64_t header;
  std::memcpy(&header, file.data(), sizeof(header));
  EXPECT_EQ(header % 8, 0u) << "readers that map the file want aligned tensors";
}

TEST(SafeTensorsTest, NamesTheFileThatIsNotThere) {
  const absl::Status status = SafeTensors::Open("/nowhere/model.safetensors").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/model.safetensors"));
}

TEST(SafeTensorsTest, RefusesWhatIsNotARegularFile) {
  const std::string pipe = ::testing::TempDir() + "safetensors_test.pipe";
  std::filesystem::remove(pipe);
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {pipe, ::testing::TempDir()}) {
    const absl::Status status = SafeTensors::Open(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(path), HasSubstr("regular file")));
  }
  std::filesystem::remove(pipe);
}

TEST(SafeTensorsTest, RefusesAFileTooShortForTheHeaderLength) {
  EXPECT_THAT(Refusal(std::vector<uint8_t>()), HasSubstr("0 bytes are too few"));
  EXPECT_THAT(Refusal(std::vector<uint8_t>(7)), HasSubstr("7 bytes are too few"));

  const std::string path = ::testing::TempDir() + "safetensors_test.empty";
  std::ofstream(path).close();
  EXPECT_EQ(SafeTensors::Open(path).status().code(), absl::StatusCode::kInvalidArgument);
  std::filesystem::remove(path);
}

TEST(SafeTensorsTest, RefusesAHeaderLongerThanTheFile) {
  EXPECT_THAT(Refusal(File(3, "{}")), HasSubstr("should be 3 bytes long, but only 2 follow"));
  EXPECT_THAT(Refusal(File(100'000'000, "{}")), HasSubstr("only 2 follow"));
}

TEST(SafeTensorsTest, RefusesAHeaderOverTheLimit) {
  EXPECT_THAT(Refusal(File(100'000'001, "{}")), HasSubstr("a header of 100000001 bytes"));
  EXPECT_THAT(Refusal(File(uint64_t{1} << 63, "{}")), HasSubstr("a header of 9223372036854775808"));
  EXPECT_THAT(Refusal(File(~uint64_t{0}, "{}")), HasSubstr("a header of 18446744073709551615"));
}

TEST(SafeTensorsTest, RefusesAHeaderThatIsNotAJsonObject) {
  EXPECT_THAT(Refusal("", 0), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(Refusal("[]", 0), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(Refusal(" {}", 0), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(Refusal("{", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Refusal("{}}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Refusal("{\"w\":", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Refusal("{\"\xff\": 1}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Refusal(absl::string_view("{}\0 and more", 12), 0), HasSubstr("NUL byte"));
  EXPECT_LT(Refusal("{\"" + std::string(1'000'000, 'n'), 0).size(), 1000u);
}

TEST(SafeTensorsTest, TakesAHeaderPaddedWithSpacesAndAFileWithoutTensors) {
  auto file = SafeTensors::Parse(File("{}      ", 0), "a");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->tensors(), IsEmpty());
}

TEST(SafeTensorsTest, PassesOverMetadataAndUnknownFields) {
  const std::vector<uint8_t> bytes = File(
      R"({"__metadata__":{"a":[{"b":{}}],"dtype":1},"w":{"new":[[1],{"shape":"s"}],"dtype":"F16",)"
      R"("x":null,"shape":[1],"y":-1.5,"data_offsets":[0,2],"z":true}})",
      2);
  auto file = SafeTensors::Parse(bytes, "a");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 1u);
  EXPECT_THAT(file->Find("w")->shape, ElementsAre(1));
  EXPECT_EQ(file->Find("w")->bytes.data(), bytes.data() + bytes.size() - 2);
}

TEST(SafeTensorsTest, RefusesDeepNestingWithoutRecursing) {
  const std::string deep(1'000'000, '[');
  EXPECT_THAT(Refusal("{\"__metadata__\":" + deep, 0), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(Refusal("{\"w\":{\"x\":" + deep, 0), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(Refusal("{\"w\":{\"shape\":" + deep, 0), HasSubstr("not an array"));
}

TEST(SafeTensorsTest, NamesTheTensorOfUnknownDType) {
  for (absl::string_view dtype : {"F64", "I32", "U8", "F8_E4M3", "f32", ""}) {
    EXPECT_THAT(
        TensorRefusal(
            absl::StrCat(R"({"dtype":")", dtype, R"(","shape":[1],"data_offsets":[0,8]})"), 8),
        HasSubstr(absl::StrCat("dtype \"", dtype, "\" is not supported")));
  }
  EXPECT_THAT(TensorRefusal(R"({"dtype":32})", 0), HasSubstr("must be a string, not 32"));
}

TEST(SafeTensorsTest, RefusesShapesThatAreNoCounts) {
  for (absl::string_view value : {"-1", "1.0", "-0", "1e3", "\"2\"", "null", "true", "{}"}) {
    EXPECT_THAT(
        TensorRefusal(
            absl::StrCat(R"({"dtype":"F32","data_offsets":[0,8],"shape":[2,)", value, "]}"), 8),
        HasSubstr("\"shape\" must be an array of whole numbers >= 0"))
        << value;
  }
  EXPECT_THAT(TensorRefusal(R"({"dtype":"F32","data_offsets":[0,8],"shape":2})", 8),
              HasSubstr("\"shape\" must be an array of whole numbers >= 0, not 2"));
}

TEST(SafeTensorsTest, RefusesShapesThatOverflow) {
  for (absl::string_view shape : {"4294967296,4294967296", "9223372036854775807,3",
                                  "4611686018427387904", "4611686018427387904,8,0"}) {
    EXPECT_THAT(
        TensorRefusal(absl::StrCat(R"({"dtype":"F32","data_offsets":[0,0],"shape":[)", shape, "]}"),
                      0),
        HasSubstr("too large"))
        << shape;
  }
  EXPECT_THAT(TensorRefusal(R"({"dtype":"F32","shape":[9223372036854775808]})", 0),
              HasSubstr("dimension 9223372036854775808 is too large"));
  std::string many = "1";
  for (int i = 0; i < 32; ++i) many += ",1";
  EXPECT_THAT(TensorRefusal("{\"shape\":[" + many + "]}", 0), HasSubstr("more than 32 dimensions"));
}

TEST(SafeTensorsTest, RefusesDataOffsetsThatAreNoRangeOfTheData) {
  const auto refusal = [](absl::string_view offsets, size_t data_size) {
    return TensorRefusal(
        absl::StrCat(R"({"dtype":"F16","shape":[2],"data_offsets":)", offsets, "}"), data_size);
  };
  EXPECT_THAT(refusal("[0,4]", 3), HasSubstr("[0, 4] do not lie within the file's 3 bytes"));
  EXPECT_THAT(refusal("[4,0]", 4), HasSubstr("[4, 0] do not lie within"));
  EXPECT_THAT(refusal("[18446744073709551612,18446744073709551615]", 4), HasSubstr("do not lie"));
  EXPECT_THAT(refusal("[-4,0]", 4), HasSubstr("must be two whole numbers >= 0, not -4"));
  EXPECT_THAT(refusal("[0,18446744073709551616]", 4), HasSubstr("must be two whole numbers"));
  EXPECT_THAT(refusal("[0]", 4), HasSubstr("must be two numbers"));
  EXPECT_THAT(refusal("[0,4,4]", 4), HasSubstr("must be two numbers"));
  EXPECT_THAT(refusal("4", 4), HasSubstr("must be two whole numbers >= 0, not 4"));
}

TEST(SafeTensorsTest, RefusesASizeThatShapeAndDTypeDoNotGive) {
  EXPECT_THAT(TensorRefusal(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,12]})", 12),
              HasSubstr("F32 [2, 3] takes 24 bytes, but data_offsets hold 12"));
  EXPECT_THAT(TensorRefusal(R"({"dtype":"I64","shape":[],"data_offsets":[0,0]})", 0),
              HasSubstr("I64 [] takes 8 bytes"));
}

TEST(SafeTensorsTest, RefusesATensorThatLacksAField) {
  EXPECT_THAT(TensorRefusal("{}", 0), HasSubstr("\"dtype\" is missing"));
  EXPECT_THAT(TensorRefusal(R"({"dtype":"F32","data_offsets":[0,4]})", 4),
              HasSubstr("\"shape\" is missing"));
  EXPECT_THAT(TensorRefusal(R"({"dtype":"F32","shape":[1]})", 4),
              HasSubstr("\"data_offsets\" is missing"));
  EXPECT_THAT(TensorRefusal("[]", 0), HasSubstr("must be described by an object, not an array"));
  EXPECT_THAT(TensorRefusal("null", 0), HasSubstr("must be described by an object, not null"));
}

constexpr absl::string_view kTwoTensors = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[$0]},)"
                                          R"("b":{"dtype":"F32","shape":[1],"data_offsets":[$1]}})";

std::string TwoTensorRefusal(absl::string_view a, absl::string_view b, size_t data_size) {
  std::string header(kTwoTensors);
  header.replace(header.find("$0"), 2, std::string(a));
  header.replace(header.find("$1"), 2, std::string(b));
  return Refusal(header, data_size);
}

TEST(SafeTensorsTest, RefusesOverlaps) {
  EXPECT_THAT(TwoTensorRefusal("0,4", "0,4", 4), HasSubstr("overlaps tensor"));
  EXPECT_THAT(TwoTensorRefusal("3,7", "0,4", 7), HasSubstr("tensor \"a\": overlaps tensor \"b\""));
}

TEST(SafeTensorsTest, RefusesDataThatBelongsToNoTensor) {
  EXPECT_THAT(TwoTensorRefusal("0,4", "5,9", 9),
              HasSubstr("tensor \"b\": bytes 4 to 5 before it belong to no tensor"));
  EXPECT_THAT(TwoTensorRefusal("0,4", "4,8", 9), HasSubstr("the last 1 bytes belong to no tensor"));
  EXPECT_THAT(Refusal("{}", 1), HasSubstr("the last 1 bytes belong to no tensor"));
}

TEST(SafeTensorsTest, RefusesWhatIsDeclaredTwice) {
  EXPECT_THAT(Refusal(R"({"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"w":{}})", 2),
              HasSubstr("tensor \"w\": declared twice"));
  EXPECT_THAT(TensorRefusal(R"({"dtype":"F16","dtype":"F32"})", 0),
              HasSubstr("\"dtype\" is given twice"));
  EXPECT_THAT(Refusal(R"({"__metadata__":{},"__metadata__":{}})", 0), HasSubstr("given twice"));
}

TEST(SafeTensorsTest, EscapesAndCutsNamesInErrors) {
  EXPECT_THAT(Refusal("{\"a\\nb\":1}", 0), HasSubstr(R"(tensor "a\nb":)"));
  EXPECT_LT(Refusal("{\"" + std::string(1'000'000, 'n') + "\":1}", 0).size(), 1000u);
}

}  // namespace
}  // namespace dla
