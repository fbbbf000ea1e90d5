#include "model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "model/labels.h"

namespace dla {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string ReadGolden(const std::string& name) {
  std::ifstream file(DLA_TEST_GOLDEN "/formats/" + name, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

ModelConfig Parse(absl::string_view json) {
  auto config = ParseModelConfig(json, "config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : ModelConfig();
}

std::string Refusal(absl::string_view json) {
  const absl::Status status = ParseModelConfig(json, "m/config.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json << " -> " << status;
  EXPECT_THAT(std::string(status.message()), StartsWith("m/config.json: "));
  return std::string(status.message());
}

// A config that is right but for these fields of its top level, or of its pretrained_cfg.
std::string Top(absl::string_view fields) {
  return absl::StrCat(R"({"architecture":"dla34","pretrained_cfg":{"num_classes":3},)", fields,
                      "}");
}
std::string Pretrained(absl::string_view fields) {
  return absl::StrCat(R"({"architecture":"dla34","num_classes":3,"pretrained_cfg":{)", fields,
                      "}}");
}

MATCHER_P2(IsLabel, name, id, "") { return arg.name == name && arg.id == id; }

TEST(ModelConfigTest, ReadsThePublishedHeadAsTimmSavesIt) {
  const ModelConfig config = Parse(ReadGolden("dla34.json"));
  EXPECT_EQ(config.architecture, "dla34");
  EXPECT_EQ(config.num_classes, 1000);
  EXPECT_EQ(config.input.height, 224);
  EXPECT_EQ(config.input.width, 224);
  EXPECT_EQ(config.input.crop_pct, 0.875);
  EXPECT_EQ(config.input.interpolation, Interpolation::kBilinear);
  EXPECT_EQ(config.input.crop_mode, CropMode::kCenter);
  EXPECT_THAT(config.input.mean, ElementsAre(0.485f, 0.456f, 0.406f));
  EXPECT_THAT(config.input.std, ElementsAre(0.229f, 0.224f, 0.225f));
  ASSERT_EQ(config.labels.size(), 1000u);
  EXPECT_THAT(config.labels[258], IsLabel("Samoyed, Samoyede", "n02111889"));
}

TEST(ModelConfigTest, ReadsAFineTunedHeadAsTimmSavesIt) {
  const ModelConfig config = Parse(ReadGolden("finetuned.json"));
  EXPECT_EQ(config.architecture, "dla46_c");
  EXPECT_EQ(config.num_classes, 3);
  EXPECT_EQ(config.input.height, 160);
  EXPECT_EQ(config.input.width, 192);
  EXPECT_EQ(config.input.crop_pct, 0.95);
  EXPECT_EQ(config.input.interpolation, Interpolation::kBicubic);
  EXPECT_EQ(config.input.crop_mode, CropMode::kSquash);
  EXPECT_THAT(config.input.mean, ElementsAre(0.5f, 0.4f, 0.3f));
  EXPECT_THAT(config.input.std, ElementsAre(0.25f, 0.2f, 0.125f));
  EXPECT_THAT(config.labels, ElementsAre(IsLabel("daisy", "bellis"), IsLabel("rose", "rosa"),
                                         IsLabel("tulip", "tulipa")));
}

// resolve_data_config of a config that says nothing; null says nothing, too.
TEST(ModelConfigTest, FillsInTimmsDefaults) {
  for (absl::string_view json :
       {R"({"architecture":"dla60","pretrained_cfg":{}})", R"({"architecture":"dla60"})",
        R"({"architecture":"dla60","num_classes":null,"label_names":null,"model_args":null,
            "pretrained_cfg":{"interpolation":null,"crop_pct":null,"mean":null,"std":null,
                              "input_size":null,"crop_mode":null}})"}) {
    const ModelConfig config = Parse(json);
    EXPECT_EQ(config.architecture, "dla60");
    EXPECT_EQ(config.num_classes, 1000);
    EXPECT_EQ(config.input.height, 224);
    EXPECT_EQ(config.input.crop_pct, 0.875);
    EXPECT_EQ(config.input.interpolation, Interpolation::kBicubic);
    EXPECT_EQ(config.input.crop_mode, CropMode::kCenter);
    EXPECT_THAT(config.input.mean, ElementsAre(0.485f, 0.456f, 0.406f));
  }
}

TEST(ModelConfigTest, ReadsTheOlderLayoutWithoutPretrainedCfg) {
  const ModelConfig config = Parse(
      R"({"architecture":"dla34","num_classes":2,"input_size":[3,96,128],"interpolation":"nearest",
          "crop_mode":"border","labels":["cat","dog"]})");
  EXPECT_EQ(config.num_classes, 2);
  EXPECT_EQ(config.input.height, 96);
  EXPECT_EQ(config.input.width, 128);
  EXPECT_EQ(config.input.interpolation, Interpolation::kNearest);
  EXPECT_EQ(config.input.crop_mode, CropMode::kBorder);
  EXPECT_THAT(config.labels, ElementsAre(IsLabel("cat", ""), IsLabel("dog", "")));
}

TEST(ModelConfigTest, PrefersTheTopLevelWhereBothSaySomething) {
  const ModelConfig config = Parse(
      R"({"architecture":"dla34","num_classes":2,"label_names":["a","b"],
          "pretrained_cfg":{"num_classes":1000,"label_names":["c"],"architecture":"x"}})");
  EXPECT_EQ(config.architecture, "dla34");
  EXPECT_EQ(config.num_classes, 2);
  EXPECT_THAT(config.labels, ElementsAre(IsLabel("a", ""), IsLabel("b", "")));
}

TEST(ModelConfigTest, ReadsLabelsFromPretrainedCfg) {
  EXPECT_THAT(
      Parse(Pretrained(R"("label_names":["a","b","c"],"label_descriptions":{"b":"bee"})")).labels,
      ElementsAre(IsLabel("a", ""), IsLabel("bee", "b"), IsLabel("c", "")));
}

TEST(ModelConfigTest, ReadsLabelNamesByIndexWithGaps) {
  EXPECT_THAT(Parse(Top(R"("num_classes":3,"label_names":{"2":"c","0":"a"})")).labels,
              ElementsAre(IsLabel("a", ""), IsLabel("", ""), IsLabel("c", "")));
}

TEST(ModelConfigTest, GivesImageNetsNamesOnlyToAThousandUnnamedClasses) {
  EXPECT_THAT(Parse(Top(R"("num_classes":999)")).labels, IsEmpty());
  EXPECT_THAT(Parse(Top(R"("num_classes":1000,"label_names":[])")).labels[0],
              IsLabel("tench, Tinca tinca", "n01440764"));
  std::string names = "\"x\"";
  for (int i = 1; i < 1000; ++i) names += ",\"x\"";
  EXPECT_THAT(
      Parse(Top(absl::StrCat("\"num_classes\":1000,\"label_names\":[", names, "]"))).labels[258],
      IsLabel("x", ""));
}

// timm evaluates at input_size unless asked for the test size.
TEST(ModelConfigTest, DoesNotUseTestSizesAndUnknownFields) {
  const ModelConfig config = Parse(Pretrained(
      R"("input_size":[3,64,64],"test_input_size":[3,288,288],"test_crop_pct":1,"new":{"a":[]})"));
  EXPECT_EQ(config.input.height, 64);
  EXPECT_EQ(config.input.crop_pct, 0.875);
}

TEST(ModelConfigTest, RefusesWhatIsNoJsonObject) {
  EXPECT_THAT(Refusal(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(Refusal("{"), HasSubstr("line 1, column 2"));
  EXPECT_THAT(Refusal(R"({"architecture":"dla34","crop_pct":NaN})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(Refusal(absl::string_view("{}\0{}", 5)), HasSubstr("NUL byte"));
  EXPECT_THAT(Refusal("[]"), HasSubstr("must be a JSON object"));
  EXPECT_THAT(Refusal(R"({"architecture":"dla34","architecture":"dla60"})"),
              HasSubstr("\"architecture\" is given twice"));
  EXPECT_THAT(Refusal(R"({"architecture":"dla34","pretrained_cfg":[]})"),
              HasSubstr("pretrained_cfg is []; it must be an object"));
}

TEST(ModelConfigTest, RefusesDeepNestingAndHugeFiles) {
  EXPECT_THAT(Refusal("{\"a\":" + std::string(1'000'000, '[')), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(Refusal(std::string((64 << 20) + 1, ' ')), HasSubstr("67108865 bytes of JSON"));
}

TEST(ModelConfigTest, RefusesAMissingOrMistypedArchitecture) {
  EXPECT_THAT(Refusal("{}"), HasSubstr("architecture is missing"));
  EXPECT_THAT(Refusal(R"({"architecture":34})"),
              HasSubstr("architecture is 34; it must be a string"));
}

TEST(ModelConfigTest, RefusesNumClassesOutOfRange) {
  for (absl::string_view value : {"0", "-1", "1000001", "18446744073709551615", "4294967297", "2.0",
                                  "\"3\"", "true", "[3]"}) {
    EXPECT_THAT(Refusal(Top(absl::StrCat("\"num_classes\":", value))),
                HasSubstr(absl::StrCat("num_classes is ", value,
                                       "; it must be a whole number from 1 to 1000000")));
  }
  EXPECT_EQ(Parse(Top("\"num_classes\":1000000")).num_classes, 1'000'000);
}

TEST(ModelConfigTest, RefusesOtherInputSizes) {
  for (absl::string_view value :
       {"[1,224,224]", "[3,224]", "[3,224,224,1]", "224", "[3,0,224]", "[3,224,4097]",
        "[3,-224,224]", "[3,224.0,224]", "[3,\"224\",224]", "[3,4294967520,224]", "{}"}) {
    EXPECT_THAT(
        Refusal(Pretrained(absl::StrCat("\"input_size\":", value))),
        HasSubstr(absl::StrCat("input_size is ", value,
                               "; it must be [3, height, width] with sides from 1 to 4096")));
  }
  EXPECT_EQ(Parse(Pretrained("\"input_size\":[3,1,4096]")).input.width, 4096);
}

TEST(ModelConfigTest, RefusesOtherCropPcts) {
  for (absl::string_view value :
       {"0", "-0.5", "1.01", "0.001", "1e-320", "\"0.9\"", "[1]", "true"}) {
    EXPECT_THAT(Refusal(Pretrained(absl::StrCat("\"crop_pct\":", value))),
                AllOf(HasSubstr("crop_pct is "), HasSubstr("over 0 and at most 1")))
        << value;
  }
  EXPECT_EQ(Parse(Pretrained("\"crop_pct\":1")).input.crop_pct, 1.0);
}

TEST(ModelConfigTest, NamesTheInterpolationsAndCropModesThatAreKnown) {
  EXPECT_THAT(
      Refusal(Pretrained(R"("interpolation":"lanczos")")),
      HasSubstr("interpolation is \"lanczos\"; it must be one of \"nearest\", \"bilinear\", "
                "\"bicubic\""));
  EXPECT_THAT(Refusal(Pretrained(R"("interpolation":2)")), HasSubstr("interpolation is 2"));
  EXPECT_THAT(Refusal(Pretrained(R"("crop_mode":"middle")")),
              HasSubstr("crop_mode is \"middle\"; it must be one of \"center\", \"squash\", "
                        "\"border\""));
}

TEST(ModelConfigTest, RefusesMeansAndStdsThatCannotNormalise) {
  for (absl::string_view value : {"[0.5,0.5]", "[0.5]", "[1,1,1,1]", "0.5", "[1,1,1e39]",
                                  "[1,1,null]", "[1,1,\"1\"]", "{}"}) {
    EXPECT_THAT(Refusal(Pretrained(absl::StrCat("\"mean\":", value))),
                AllOf(HasSubstr("mean is "), HasSubstr("three numbers")))
        << value;
    EXPECT_THAT(Refusal(Pretrained(absl::StrCat("\"std\":", value))),
                AllOf(HasSubstr("std is "), HasSubstr("three numbers over 0")))
        << value;
  }
  for (absl::string_view value : {"[1,1,0]", "[-1,1,1]", "[1,1,1e-60]"}) {
    EXPECT_THAT(Refusal(Pretrained(absl::StrCat("\"std\":", value))),
                HasSubstr("three numbers over 0"))
        << value;
  }
  EXPECT_THAT(Parse(Pretrained("\"mean\":[-1,0,1]")).input.mean, ElementsAre(-1, 0, 1));
}

TEST(ModelConfigTest, RefusesLabelsThatDoNotFitTheClasses) {
  EXPECT_THAT(Refusal(Top(R"("label_names":["a","b"])")),
              HasSubstr("label_names has 2 entries, but num_classes is 3"));
  EXPECT_THAT(Refusal(Top(R"("label_names":["a","b",3])")),
              HasSubstr("label_names[2] is 3; it must be a string"));
  EXPECT_THAT(Refusal(Top(R"("label_names":"abc")")), HasSubstr("label_names is \"abc\""));
  for (absl::string_view key : {"3", "-1", "one", "", "99999999999"}) {
    EXPECT_THAT(Refusal(Top(absl::StrCat(R"("label_names":{")", key, R"(":"a"})"))),
                HasSubstr(absl::StrCat("label_names has the key \"", key,
                                       "\"; keys must be class indices from 0 to 2")));
  }
  EXPECT_THAT(Refusal(Top(R"("label_names":{"0":1})")), HasSubstr("label_names[\"0\"] is 1"));
  EXPECT_THAT(Refusal(Top(R"("label_names":["a","b","c"],"label_descriptions":["d"])")),
              HasSubstr("label_descriptions is [\"d\"]; it must be an object"));
  EXPECT_THAT(Refusal(Top(R"("label_names":["a","b","c"],"label_descriptions":{"b":1})")),
              HasSubstr("label_descriptions[\"b\"] is 1; it must be a string"));
}

// Such a network has tensors of the same names, so it would load and answer wrongly.
TEST(ModelConfigTest, RefusesArgumentsThatChangeTheNetwork) {
  EXPECT_THAT(Refusal(Top(R"("global_pool":"max")")),
              HasSubstr("global_pool is \"max\"; it must be \"avg\""));
  EXPECT_THAT(Refusal(Top(R"("model_args":{"global_pool":"max"})")),
              HasSubstr("model_args.global_pool is \"max\""));
  EXPECT_THAT(Refusal(Top(R"("model_args":{"in_chans":1})")),
              HasSubstr("model_args.in_chans is 1; it must be 3"));
  EXPECT_THAT(Refusal(Top(R"("model_args":{"num_classes":4})")),
              HasSubstr("model_args.num_classes is 4; it must be 3"));
  EXPECT_THAT(Refusal(Top(R"("model_args":{"shortcut_root":true})")),
              HasSubstr("model_args.shortcut_root is true; it must be absent"));
  EXPECT_THAT(Refusal(Top(R"("model_args":3)")), HasSubstr("model_args is 3"));
  Parse(Top(R"("global_pool":"avg","model_args":{"global_pool":"avg","in_chans":3,
               "num_classes":3,"drop_rate":0.2})"));
}

TEST(ModelConfigTest, ShortensLongValuesInErrors) {
  EXPECT_LT(Refusal(Top("\"label_names\":\"" + std::string(1'000'000, 'n') + "\"")).size(), 300u);
}

TEST(ModelConfigTest, TellsInt8FoldersByTheirFormat) {
  EXPECT_FALSE(Parse(Top("\"quantization\":null")).is_int8);
  EXPECT_TRUE(Parse(Top(R"("quantization":{"format":1,"tool":"x","layers":[]})")).is_int8);
  for (const char* wrong : {"1", "\"int8\"", "[]", "{}", R"({"format":null})"}) {
    EXPECT_THAT(Refusal(Top(absl::StrCat("\"quantization\":", wrong))),
                HasSubstr("as dla-quantize writes it"));
  }
  EXPECT_THAT(Refusal(Top(R"("quantization":{"format":2})")),
              HasSubstr("quantization.format is 2; it must be 1"));
}

TEST(LabelsTest, KnowsTheClassesOfImageNet) {
  const absl::Span<const Label> labels = ImageNet1kLabels();
  ASSERT_EQ(labels.size(), 1000u);
  for (const Label& label : labels) {
    EXPECT_THAT(label.name, ::testing::Not(IsEmpty()));
    EXPECT_EQ(label.id.size(), 9u) << label.id;
    EXPECT_EQ(label.id[0], 'n') << label.id;
  }
  EXPECT_THAT(labels[0], IsLabel("tench, Tinca tinca", "n01440764"));
  EXPECT_THAT(labels[258], IsLabel("Samoyed, Samoyede", "n02111889"));
  EXPECT_THAT(labels[999], IsLabel("toilet tissue, toilet paper, bathroom tissue", "n15075141"));
}

}  // namespace
}  // namespace dla
