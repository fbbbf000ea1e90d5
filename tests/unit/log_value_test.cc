#include "server/log_value.h"

#include <gtest/gtest.h>

namespace dla::server {
namespace {

TEST(LogValueTest, LeavesPlainWordsAsTheyAre) {
  EXPECT_EQ(LogValue("dla34"), "dla34");
  EXPECT_EQ(LogValue("/models/dla34:stable,2"), "/models/dla34:stable,2");
}

TEST(LogValueTest, QuotesWhatCouldPassForAnotherField) {
  EXPECT_EQ(LogValue("a b"), "\"a b\"");
  EXPECT_EQ(LogValue("a=b"), "\"a=b\"");
  EXPECT_EQ(LogValue(""), "\"\"");
  EXPECT_EQ(LogValue("x\" admin=\"true"), "\"x\\\" admin=\\\"true\"");
}

TEST(LogValueTest, EscapesLineEndsAndWhatTerminalsObey) {
  EXPECT_EQ(LogValue("a\nready grpc=x"), "\"a\\nready grpc=x\"");
  EXPECT_EQ(LogValue("\x1b[2J"), "\"\\x1b[2J\"");
  EXPECT_EQ(LogValue("\xc2\x9b"), "\"\\xc2\\x9b\"");
}

TEST(LogValueTest, CutsWhatIsLong) {
  EXPECT_EQ(LogValue(std::string(1000, 'a')), std::string(200, 'a') + "...");
}

TEST(LogLineTest, EscapesAllButPrintableAsciiAndLeavesQuotes) {
  EXPECT_EQ(LogLine("a=\"b c\"\n\x1b[31m\xff\r"), "a=\"b c\"\\n\\x1b[31m\\xff\\x0d");
  EXPECT_EQ(LogLine("plain"), "plain");
}

}  // namespace
}  // namespace dla::server
