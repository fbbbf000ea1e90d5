#include "server/settled.h"

#include <gtest/gtest.h>

namespace dla::server {
namespace {

TEST(SettledTest, TakesWhatTwoLooksInARowHaveSeen) {
  Settled<int> files(1);
  EXPECT_FALSE(files.Look(2, false));
  EXPECT_FALSE(files.Look(3, false)) << "still being written";
  EXPECT_EQ(files.used(), 1);
  EXPECT_TRUE(files.Look(3, false));
  EXPECT_EQ(files.used(), 3);
  EXPECT_FALSE(files.Look(3, false)) << "nothing new";
}

TEST(SettledTest, TakesAtOnceWhatItIsToldTo) {
  Settled<int> files(1);
  EXPECT_TRUE(files.Look(2, true));
  EXPECT_EQ(files.used(), 2);
}

TEST(SettledTest, KeepsWhatItHasThroughErrorsAndTellsThemOnceTheyStay) {
  Settled<int> files(1);
  const absl::Status wrong = absl::InvalidArgumentError("wrong");
  EXPECT_FALSE(files.Look(wrong, false));
  EXPECT_TRUE(files.error().ok()) << "it may be half written";
  EXPECT_FALSE(files.Look(wrong, false));
  EXPECT_EQ(files.error(), wrong);
  EXPECT_EQ(files.used(), 1);
  EXPECT_FALSE(files.Look(1, true)) << "as before";
  EXPECT_TRUE(files.error().ok());
}

}  // namespace
}  // namespace dla::server
