#include "cli/text.h"

#include <gtest/gtest.h>

#include <clocale>

namespace dla::cli {
namespace {

TEST(PrintableTest, KeepsOrdinaryText) {
  EXPECT_EQ(Printable("Samoyed, Samoyède 犬 🐕"), "Samoyed, Samoyède 犬 🐕");
  EXPECT_EQ(Printable(""), "");
}

TEST(PrintableTest, EscapesWhatSteersATerminal) {
  EXPECT_EQ(Printable("a\nb\r\tc"), "a\\nb\\r\\tc");
  EXPECT_EQ(Printable("\x1b[2J\x07"), "\\x1b[2J\\x07");
  EXPECT_EQ(Printable(absl::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(Printable("\x7f"), "\\x7f");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");  // C1: control sequence introducer
  EXPECT_EQ(Printable("photo\u202egpj.exe"), "photo\\u202egpj.exe");  // right to left
  EXPECT_EQ(Printable("a\u2028b\u2066"), "a\\u2028b\\u2066");
}

TEST(PrintableTest, EscapesBytesThatAreNoUtf8) {
  EXPECT_EQ(Printable("caf\xe9.jpg"), "caf\\xe9.jpg");               // Latin-1
  EXPECT_EQ(Printable("\xc0\x80"), "\\xc0\\x80");                    // overlong
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond U+10FFFF
  EXPECT_EQ(Printable("\xe7\x8a"), "\\xe7\\x8a");                    // cut off
  EXPECT_EQ(Printable("\x9b"
                      "31m"),
            "\\x9b31m");
}

TEST(ValidUtf8Test, ReplacesOnlyWhatIsInvalid) {
  EXPECT_EQ(ValidUtf8("caf\xe9 犬"), "caf\xef\xbf\xbd 犬");
}

class DisplayWidthTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::setlocale(LC_CTYPE, "C.UTF-8") == nullptr) GTEST_SKIP() << "no locale C.UTF-8";
  }
};

TEST_F(DisplayWidthTest, CountsColumns) {
  EXPECT_EQ(DisplayWidth("Samoyed"), 7);
  EXPECT_EQ(DisplayWidth("Samoyède"), 8);
  EXPECT_EQ(DisplayWidth("犬"), 2);
  EXPECT_EQ(DisplayWidth("e\u0301"), 1);
}

TEST_F(DisplayWidthTest, CutsToColumns) {
  EXPECT_EQ(FitColumns("Samoyed", 7, "…"), "Samoyed");
  EXPECT_EQ(FitColumns("Samoyed", 6, "…"), "Samoy…");
  EXPECT_EQ(FitColumns("Samoyed", 6, "..."), "Sam...");
  EXPECT_EQ(FitColumns("犬犬犬", 4, "…"), "犬…");  // a wide character never sticks out
  EXPECT_EQ(FitColumns("Samoyed", 2, "..."), "");
}

TEST_F(DisplayWidthTest, PadsToColumns) {
  EXPECT_EQ(PadColumns("犬", 4), "犬  ");
  EXPECT_EQ(PadColumns("Samoyed", 4), "Samoyed");
}

}  // namespace
}  // namespace dla::cli
