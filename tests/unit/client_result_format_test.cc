#include "client/result_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <clocale>
#include <limits>

#include "cli/text.h"
#include "client/json_text.h"

namespace dla::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const cli::Terminal kPipe = {
    .is_terminal = false, .can_redraw = false, .utf8 = false, .columns = 80};
const cli::Terminal kAscii = {
    .is_terminal = true, .can_redraw = true, .utf8 = false, .columns = 80};
const cli::Terminal kUtf8 = {.is_terminal = true, .can_redraw = true, .utf8 = true, .columns = 80};

void AddClass(PhotoResult& result, uint32_t index, const std::string& label, const std::string& id,
              float probability) {
  auto* c = result.answer->add_classes();
  c->set_index(index);
  c->set_label(label);
  c->set_id(id);
  c->set_probability(probability);
}

PhotoResult Dog() {
  PhotoResult result = {"photos/dog.jpg", dla::v1::ClassifyResponse()};
  result.answer->set_model("dla34");
  result.answer->set_model_version("1");
  AddClass(result, 258, "Samoyed, Samoyede", "n02111889", 0.6425f);
  AddClass(result, 259, "Pomeranian", "n02112018", 0.0406f);
  result.answer->mutable_timing()->mutable_decode()->set_nanos(1'234'567);
  result.answer->mutable_timing()->mutable_inference()->set_seconds(2);
  result.answer->mutable_timing()->set_batch_size(4);
  return result;
}

PhotoResult Broken() { return {"a \"b\".jpg", absl::InvalidArgumentError("not an image\x1b")}; }

TEST(TableTextTest, AlignsItsColumns) {
  EXPECT_EQ(TableText(Dog(), kPipe),
            "photos/dog.jpg\n"
            "  1   64.2%  #############         Samoyed, Samoyede  n02111889\n"
            "  2    4.1%  #                     Pomeranian         n02112018\n");
  EXPECT_THAT(TableText(Dog(), kUtf8), HasSubstr("64.2%  ████████████▉         Samoyed"));
}

TEST(TableTextTest, ShowsTheIndexWhereThereIsNoLabel) {
  PhotoResult result = {"x", dla::v1::ClassifyResponse()};
  AddClass(result, 12, "", "", 1.0f);
  EXPECT_EQ(TableText(result, kPipe), "x\n  1  100.0%  ####################  class 12\n");
}

TEST(TableTextTest, CutsLongLabelsOnATerminalOnly) {
  std::setlocale(LC_CTYPE, "C.UTF-8");
  PhotoResult result = Dog();
  AddClass(result, 3, std::string(200, 'w'), "n1", 0.01f);
  EXPECT_THAT(TableText(result, kPipe), HasSubstr(std::string(200, 'w')));
  for (const cli::Terminal& terminal : {kAscii, kUtf8}) {
    const std::string text = TableText(result, terminal);
    EXPECT_THAT(text, HasSubstr(terminal.utf8 ? "ww…  n1\n" : "ww...  n1\n"));
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      EXPECT_LE(cli::DisplayWidth(text.substr(begin, end - begin)), 80);
      begin = end + 1;
    }
  }
}

TEST(TableTextTest, EscapesNamesAndLabels) {
  PhotoResult result = {"a\nb.jpg", dla::v1::ClassifyResponse()};
  AddClass(result, 0, "\x1b]0;owned\x07", "\x1b[2J", 0.5f);
  const std::string text = TableText(result, kPipe);
  EXPECT_THAT(text, HasSubstr("a\\nb.jpg\n"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(TableTextTest, SurvivesProbabilitiesOutOfRange) {
  PhotoResult result = {"x", dla::v1::ClassifyResponse()};
  AddClass(result, 0, "a", "", std::numeric_limits<float>::quiet_NaN());
  AddClass(result, 1, "b", "", 1e30f);
  AddClass(result, 2, "c", "", -1.0f);
  EXPECT_THAT(TableText(result, kUtf8), HasSubstr("c\n"));
}

TEST(TableTextTest, IsEmptyForAFailedPhoto) { EXPECT_EQ(TableText(Broken(), kPipe), ""); }

TEST(ShareBarTest, HasAlwaysTheSameWidth) {
  std::setlocale(LC_CTYPE, "C.UTF-8");
  for (bool utf8 : {false, true}) {
    for (int i = -1; i <= 101; ++i) {
      EXPECT_EQ(cli::DisplayWidth(ShareBar(static_cast<float>(i) / 100, 20, utf8)), 20) << i;
    }
  }
  EXPECT_EQ(ShareBar(0.5, 4, false), "##  ");
  EXPECT_EQ(ShareBar(0.5, 3, true), "█▌ ");
}

TEST(JsonLineTest, TellsTheWholeAnswer) {
  EXPECT_EQ(JsonLine(Dog()),
            R"({"file":"photos/dog.jpg","model":"dla34","model_version":"1","classes":[)"
            R"({"index":258,"label":"Samoyed, Samoyede","id":"n02111889","probability":0.6425},)"
            R"({"index":259,"label":"Pomeranian","id":"n02112018","probability":0.0406}],)"
            R"("timing_ms":{"decode":1.235,"queue":0,"inference":2000},"batch_size":4})"
            "\n");
}

TEST(JsonLineTest, TellsTheErrorOfAFailedPhoto) {
  EXPECT_EQ(
      JsonLine(Broken()),
      R"({"file":"a \"b\".jpg","error":{"code":"INVALID_ARGUMENT","message":"not an image\u001b"}})"
      "\n");
}

TEST(JsonTextTest, EscapesStrings) {
  EXPECT_EQ(JsonString("\"\\\n\t\r\x01\x7f/é犬"), R"("\"\\\n\t\r\u0001\u007f/é犬")");
  EXPECT_EQ(JsonString("\xc2\x9b"), R"("\u009b")");
  EXPECT_EQ(JsonString("caf\xe9\xc2"), "\"caf\xef\xbf\xbd\xef\xbf\xbd\"");
}

TEST(JsonTextTest, WritesNumbersThatJsonKnows) {
  EXPECT_EQ(JsonNumber(0.1f), "0.1");
  EXPECT_EQ(JsonNumber(1e-10f), "1e-10");
  EXPECT_EQ(JsonNumber(std::numeric_limits<float>::quiet_NaN()), "null");
  EXPECT_EQ(JsonNumber(std::numeric_limits<float>::infinity()), "null");
  EXPECT_EQ(JsonMilliseconds(0.0005), "0.001");
  EXPECT_EQ(JsonMilliseconds(86'400'000.5), "86400000.5");
}

TEST(CsvLinesTest, HasALineForEachClass) {
  EXPECT_EQ(CsvLines(Dog(), kPipe),
            "photos/dog.jpg,1,258,\"Samoyed, Samoyede\",n02111889,0.6425\n"
            "photos/dog.jpg,2,259,Pomeranian,n02112018,0.0406\n");
  EXPECT_EQ(CsvLines(Broken(), kPipe), "");
}

TEST(CsvLinesTest, QuotesAsRfc4180Says) {
  EXPECT_EQ(CsvField("plain"), "plain");
  EXPECT_EQ(CsvField("a,b"), "\"a,b\"");
  EXPECT_EQ(CsvField("say \"hi\""), "\"say \"\"hi\"\"\"");
  EXPECT_EQ(CsvField("two\nlines"), "\"two\nlines\"");
  EXPECT_EQ(CsvField("cr\r"), "\"cr\r\"");
  EXPECT_EQ(CsvField(""), "");
}

TEST(CsvLinesTest, EscapesControlCharactersOnATerminalOnly) {
  PhotoResult result = {"x", dla::v1::ClassifyResponse()};
  AddClass(result, 0, "\x1b[2J", "", 0.5f);
  EXPECT_EQ(CsvLines(result, kPipe), "x,1,0,\x1b[2J,,0.5\n");
  EXPECT_EQ(CsvLines(result, kAscii), "x,1,0,\\x1b[2J,,0.5\n");
}

}  // namespace
}  // namespace dla::client
