#include "client/similar_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/similar_command.h"

namespace dla::client {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kHostile[] = "\"><script>alert('1 & 2')</script>.jpg";

class SimilarPageTest : public ::testing::Test {
 protected:
  SimilarPageTest() {
    dla::v1::ClassifyResponse answer;
    answer.set_model("<b>m</b>");
    answer.set_model_version("1");
    answer.add_embedding(1);
    answer.add_classes()->set_label("a <i>rose</i>");
    EXPECT_TRUE(ranking_.SetQuery(answer).ok());
    for (const std::string file : {"a.jpg", kHostile}) {
      EXPECT_TRUE(ranking_.Add(file, answer).ok());
    }
  }

  std::string Page(size_t max_bytes = 1000) {
    std::string html;
    const auto read = [&](const std::string& file) -> absl::StatusOr<std::string> {
      const auto it = files_.find(file);
      if (it == files_.end()) return absl::NotFoundError("no such <file>");
      return it->second;
    };
    const auto append = [&](absl::string_view text) {
      absl::StrAppend(&html, text);
      return absl::OkStatus();
    };
    const SimilarPage page = {.query_file = kHostile, .ranking = &ranking_, .compared = 17};
    EXPECT_TRUE(WriteSimilarPage(page, max_bytes, read, append).ok());
    return html;
  }

  SimilarityRanking ranking_{10};
  std::map<std::string, std::string> files_ = {{"a.jpg", "\xff\xd8\xff rose"}};
};

TEST_F(SimilarPageTest, HoldsThePhotosThemselves) {
  EXPECT_THAT(Page(), AllOf(StartsWith("<!DOCTYPE html>"), EndsWith("</html>\n"),
                            HasSubstr("src=\"data:image/jpeg;base64,/9j/IHJvc2U=\""),
                            HasSubstr("The 2 nearest of 17 photos"), HasSubstr(">1.0000<")));
}

TEST_F(SimilarPageTest, EscapesEveryNameAndMessage) {
  files_[kHostile] = "\xff\xd8\xff";
  EXPECT_THAT(Page(),
              AllOf(Not(HasSubstr("<script")), Not(HasSubstr("<b>m")), Not(HasSubstr("<i>rose")),
                    HasSubstr("alt=\"&quot;&gt;&lt;script&gt;alert(&#39;1 &amp; 2&#39;)"),
                    HasSubstr("a &lt;i&gt;rose&lt;/i&gt;, 0%")));
}

TEST_F(SimilarPageTest, SaysWhyAPhotoIsNotThere) {
  files_[kHostile] = "plain text";
  EXPECT_THAT(Page(), HasSubstr("<span>no JPEG, PNG or WebP</span>"));
  files_.erase(kHostile);
  EXPECT_THAT(Page(), HasSubstr("<span>no such &lt;file&gt;</span>"));
}

TEST_F(SimilarPageTest, LeavesOutWhatIsBeyondItsSize) {
  files_[kHostile] = std::string("\xff\xd8\xff") + std::string(100, 'x');
  EXPECT_THAT(Page(50), AllOf(HasSubstr("left out, since the page would become too large"),
                              HasSubstr("base64,/9j/IHJvc2U=")));
}

TEST_F(SimilarPageTest, LoadsNothingAndRunsNothing) {
  EXPECT_THAT(Page(), AllOf(HasSubstr("default-src 'none'; img-src data:"), Not(HasSubstr("http:")),
                            Not(HasSubstr("https:")), Not(HasSubstr("<script"))));
}

TEST_F(SimilarPageTest, EndsWithTheFirstErrorOfItsSink) {
  const SimilarPage page = {.query_file = "q", .ranking = &ranking_, .compared = 2};
  int calls = 0;
  const absl::Status status = WriteSimilarPage(
      page, 1000, [](const std::string&) { return absl::StatusOr<std::string>("x"); },
      [&](absl::string_view) {
        ++calls;
        return absl::DataLossError("disk full");
      });
  EXPECT_EQ(status.message(), "disk full");
  EXPECT_EQ(calls, 1);
}

TEST(HtmlTextTest, EscapesMarkupControlCharactersAndBadBytes) {
  EXPECT_EQ(HtmlText("a<b>&\"c' \x1b\xff é"), "a&lt;b&gt;&amp;&quot;c&#39; \\x1b\\xff é");
  EXPECT_EQ(HtmlText("&amp;"), "&amp;amp;");
}

TEST(MediaTypeTest, KnowsPhotosByTheirFirstBytes) {
  EXPECT_EQ(MediaType("\xff\xd8\xff\xe0"), "image/jpeg");
  EXPECT_EQ(MediaType("\x89PNG\r\n\x1a\n..."), "image/png");
  EXPECT_EQ(MediaType("RIFF1234WEBP"), "image/webp");
  for (const std::string other : {"", "RIFF", "RIFF1234WAVE", "<svg onload=", "GIF89a"}) {
    EXPECT_EQ(MediaType(other), "") << other;
  }
}

TEST_F(SimilarPageTest, ListsComeInThreeFormats) {
  EXPECT_EQ(SimilarTable(ranking_.photos(), {.utf8 = false}),
            absl::StrCat("  1   1.0000  ####################  a.jpg\n"
                         "  2   1.0000  ####################  ",
                         kHostile, "\n"));
  EXPECT_EQ(SimilarCsv(ranking_.photos(), {}),
            "rank,similarity,file\n1,1.000000,a.jpg\n"
            "2,1.000000,\"\"\"><script>alert('1 & 2')</script>.jpg\"\n");
  EXPECT_THAT(
      SimilarJson("q.jpg", ranking_),
      StartsWith("{\"query\":\"q.jpg\",\"rank\":1,\"similarity\":1.000000,\"file\":\"a.jpg\","
                 "\"model\":\"<b>m</b>\",\"model_version\":\"1\"}\n"));
}

}  // namespace
}  // namespace dla::client
