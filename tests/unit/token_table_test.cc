#include "server/token_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/gatekeeper.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Line(const std::string& name, const std::string& scopes, const std::string& token) {
  return absl::StrCat(name, " ", scopes, " ", HashToken(token), "\n");
}

std::string ErrorOf(const std::string& text) {
  return std::string(TokenTable::Parse(text, "tokens").status().message());
}

TEST(TokenTableTest, HashesAsSha256sumDoes) {
  EXPECT_EQ(HashToken("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(TokenTableTest, FindsWhoseTokenItIsAndWhatTheyMay) {
  const auto table = TokenTable::Parse(
      absl::StrCat("# comment\n\n", Line("alice", "infer", "a"), "  ",
                   Line("ops@example.org", "infer,admin", "b"), Line("root", "admin", "c")),
      "tokens");
  ASSERT_TRUE(table.ok()) << table.status();
  ASSERT_NE(table->Find("a"), nullptr);
  EXPECT_EQ(table->Find("a")->name, "alice");
  EXPECT_TRUE(table->Find("a")->May(Scope::kInfer));
  EXPECT_FALSE(table->Find("a")->May(Scope::kAdmin));
  EXPECT_TRUE(table->Find("b")->May(Scope::kAdmin));
  EXPECT_TRUE(table->Find("c")->May(Scope::kInfer)) << "admin includes infer";
  EXPECT_EQ(table->Find("A"), nullptr);
  EXPECT_EQ(table->Find(""), nullptr);
  EXPECT_EQ(table->Find(HashToken("a")), nullptr) << "the hash is no token";
}

TEST(TokenTableTest, TakesUpperCaseHashesTabsAndCommentsBehindALine) {
  std::string hash = HashToken("a");
  for (char& c : hash) c = static_cast<char>(toupper(c));
  const auto table = TokenTable::Parse("alice\tinfer\t" + hash + "  # the batch job\r\n", "tokens");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_NE(table->Find("a"), nullptr);
}

TEST(TokenTableTest, NamesTheLineThatIsWrongAndTheRemedyButNotWhatIsInIt) {
  const std::string good = Line("alice", "infer", "a");
  EXPECT_THAT(ErrorOf(good + "bob infer hunter2\n"),
              AllOf(HasSubstr("tokens:2: "), HasSubstr("\"bob\""), HasSubstr("--hash-token"),
                    Not(HasSubstr("hunter2"))));
  EXPECT_THAT(ErrorOf(good + "hunter2\n"),
              AllOf(HasSubstr("tokens:2: 1 fields"), Not(HasSubstr("hunter2"))));
  EXPECT_THAT(ErrorOf("bob hunter2 " + HashToken("b")),
              AllOf(HasSubstr("infer and admin"), Not(HasSubstr("hunter2"))));
  EXPECT_THAT(ErrorOf("b\"ob infer " + HashToken("b")), HasSubstr("tokens:1: the name"));
  EXPECT_THAT(ErrorOf("bob infer," + std::string(" ") + HashToken("b")), HasSubstr("scope"));
}

TEST(TokenTableTest, RefusesTheHashOfNothingWhichAnUnsetVariableMakes) {
  EXPECT_THAT(ErrorOf(Line("bob", "infer", "")), HasSubstr("SHA-256 of nothing"));
}

TEST(TokenTableTest, RefusesANameOrATokenThatIsThereTwice) {
  EXPECT_THAT(ErrorOf(Line("a", "infer", "1") + Line("a", "infer", "2")), HasSubstr("tokens:2"));
  EXPECT_THAT(ErrorOf(Line("a", "infer", "1") + Line("b", "admin", "1")), HasSubstr("tokens:2"));
}

TEST(TokenTableTest, RefusesAFileWithoutAnyToken) {
  EXPECT_THAT(ErrorOf("# none yet\n"), HasSubstr("holds no token"));
  const auto missing = TokenTable::Read("/does/not/exist");
  EXPECT_THAT(std::string(missing.status().message()),
              AllOf(HasSubstr("/does/not/exist"), HasSubstr("--token-file")));
}

TEST(PeerHostTest, LeavesTheAddressWithoutItsPort) {
  EXPECT_EQ(PeerHost("ipv4:192.0.2.7:5000"), "192.0.2.7");
  EXPECT_EQ(PeerHost("ipv6:[2001:db8::1]:5000"), "2001:db8::1");
  EXPECT_EQ(PeerHost("ipv6:%5B2001:db8::1%5D:5000"), "2001:db8::1");
  EXPECT_EQ(PeerHost("unix:/run/socket"), "unix");
  EXPECT_EQ(PeerHost(""), "");
}

}  // namespace
}  // namespace dla::server
