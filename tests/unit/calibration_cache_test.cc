#include "server/calibration_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

CalibrationRecord Record(const std::string& architecture = "dla34") {
  return {.key = {.processor = "AMD EPYC 9655 96-Core Processor",
                  .cpus = 1.5,
                  .architecture = architecture,
                  .precision = "bf16",
                  .height = 224,
                  .width = 256,
                  .classes = 1000,
                  .program = "dla-server 0.1.0",
                  .optimize = "throughput",
                  .fixed = {.replicas = 2}},
          .share = {.replicas = 2, .threads = 1, .max_batch = 4},
          .photos_per_second = 310.2,
          .measured = "2026-11-23"};
}

class CalibrationCacheTest : public ::testing::Test {
 protected:
  std::string Text() { return dla::testing::ReadFile(cache_.path()); }
  void WriteText(const std::string& text) { folder_.Write("sub/calibration.json", text); }

  // That the file is passed over with a warning that names it, and can be written anew.
  std::string WarningOf(const std::string& text) {
    WriteText(text);
    const CalibrationCache::Lookup lookup = cache_.Find(Record().key);
    EXPECT_FALSE(lookup.record.has_value()) << text;
    EXPECT_THAT(lookup.warning, AllOf(HasSubstr(cache_.path()), Not(HasSubstr("\n")))) << text;
    EXPECT_TRUE(cache_.Store(Record()).ok());
    EXPECT_TRUE(cache_.Find(Record().key).record.has_value()) << text;
    return lookup.warning;
  }

  dla::testing::TempDir folder_;
  const CalibrationCache cache_{folder_.Path("sub/calibration.json")};
};

TEST_F(CalibrationCacheTest, HoldsNothingBeforeThereIsAFile) {
  const CalibrationCache::Lookup lookup = cache_.Find(Record().key);
  EXPECT_FALSE(lookup.record.has_value());
  EXPECT_THAT(lookup.warning, IsEmpty());
}

TEST_F(CalibrationCacheTest, FindsWhatWasStoredAndMakesTheFolder) {
  ASSERT_TRUE(cache_.Store(Record()).ok());
  const CalibrationCache::Lookup lookup = cache_.Find(Record().key);
  ASSERT_TRUE(lookup.record.has_value()) << lookup.warning;
  EXPECT_EQ(lookup.record->key, Record().key);
  EXPECT_EQ(lookup.record->share, Record().share);
  EXPECT_EQ(lookup.record->photos_per_second, 310.2);
  EXPECT_EQ(lookup.record->measured, "2026-11-23");
  EXPECT_THAT(lookup.warning, IsEmpty());
}

TEST_F(CalibrationCacheTest, IsAFileThatPeopleCanRead) {
  ASSERT_TRUE(cache_.Store(Record()).ok());
  EXPECT_THAT(Text(), AllOf(HasSubstr("\n      \"architecture\": \"dla34\",\n"),
                            HasSubstr("\"threads\": \"auto\""), HasSubstr("Delete this file")));
  const auto mode = std::filesystem::status(cache_.path()).permissions();
  EXPECT_NE(mode & std::filesystem::perms::others_read, std::filesystem::perms::none);
}

TEST_F(CalibrationCacheTest, ReplacesWhatItHoldsForTheSameKeyAndKeepsTheRest) {
  CalibrationRecord record = Record();
  ASSERT_TRUE(cache_.Store(record).ok());
  ASSERT_TRUE(cache_.Store(Record("dla60")).ok());
  record.share.max_batch = 16;
  ASSERT_TRUE(cache_.Store(record).ok());
  EXPECT_EQ(cache_.Find(record.key).record->share.max_batch, 16);
  EXPECT_EQ(cache_.Find(Record("dla60").key).record->share.max_batch, 4);
}

TEST_F(CalibrationCacheTest, UsesAResultForNothingElse) {
  ASSERT_TRUE(cache_.Store(Record()).ok());
  const CalibrationKey good = Record().key;
  constexpr void (*kChanges[])(CalibrationKey&) = {
      [](CalibrationKey& key) { key.architecture = "dla60"; },
      [](CalibrationKey& key) { key.precision = "fp32"; },
      [](CalibrationKey& key) { key.height = 320; },
      [](CalibrationKey& key) { key.width = 320; },
      [](CalibrationKey& key) { key.classes = 5; },
      [](CalibrationKey& key) { key.program = "dla-server 0.2.0"; },
      [](CalibrationKey& key) { key.optimize = "latency"; },
      [](CalibrationKey& key) { key.fixed = {}; },
  };
  for (const auto change : kChanges) {
    CalibrationKey key = good;
    change(key);
    EXPECT_FALSE(cache_.Find(key).record.has_value());
    EXPECT_THAT(cache_.Find(key).warning, IsEmpty());
  }
}

TEST_F(CalibrationCacheTest, WarnsOfResultsFromAnotherMachineAndKeepsThem) {
  ASSERT_TRUE(cache_.Store(Record()).ok());
  CalibrationRecord here = Record();
  here.key.processor = "Intel(R) Xeon(R) Processor";
  here.key.cpus = 64;
  const CalibrationCache::Lookup lookup = cache_.Find(here.key);
  EXPECT_FALSE(lookup.record.has_value());
  EXPECT_THAT(lookup.warning,
              AllOf(HasSubstr(cache_.path()), HasSubstr("AMD EPYC 9655 96-Core Processor"),
                    HasSubstr("1.5"), HasSubstr("Intel(R) Xeon(R) Processor"), HasSubstr("64")));
  ASSERT_TRUE(cache_.Store(here).ok());
  EXPECT_THAT(cache_.Find(here.key).warning, IsEmpty());
  EXPECT_TRUE(cache_.Find(Record().key).record.has_value());
}

TEST_F(CalibrationCacheTest, PassesOverADamagedFileWithAWarningThatNamesIt) {
  ASSERT_TRUE(cache_.Store(Record()).ok());
  const std::string good = Text();
  for (size_t i = 0; i + 3 < good.size(); i += 7) WarningOf(good.substr(0, i + 1));
  const auto with = [&](const std::string& from, const std::string& to) {
    EXPECT_THAT(good, HasSubstr(from));
    return absl::StrReplaceAll(good, {{from, to}});
  };
  EXPECT_THAT(WarningOf("\x7f"
                        "ELF"),
              HasSubstr("damaged"));
  EXPECT_THAT(WarningOf("[]"), HasSubstr("damaged"));
  EXPECT_THAT(WarningOf(with("\"format\": 1", "\"format\": 2")), HasSubstr("format 2"));
  EXPECT_THAT(WarningOf(with("\"max_batch\": 4", "\"max_batch\": 100000")), HasSubstr("100000"));
  EXPECT_THAT(WarningOf(with("\"max_batch\": 4", "\"max_batch\": -1")), HasSubstr("-1"));
  EXPECT_THAT(WarningOf(with("\"max_batch\": 4", "\"max_batch\": 1e300")), HasSubstr("e+300"));
  EXPECT_THAT(WarningOf(with("\"max_batch\": 4", "\"max_batch\": \"auto\"")), HasSubstr("auto"));
  EXPECT_THAT(WarningOf(with("\"bf16\"", "16")), HasSubstr("string"));
  EXPECT_THAT(WarningOf(with("\"width\": 256,", "")), HasSubstr("width"));
  EXPECT_THAT(WarningOf(std::string(2 << 20, ' ')), HasSubstr("more than the 1048576 bytes"));
}

TEST_F(CalibrationCacheTest, AFolderInPlaceOfTheFileIsAWarningAndAnErrorToStore) {
  std::filesystem::create_directories(cache_.path());
  EXPECT_THAT(cache_.Find(Record().key).warning, HasSubstr("not a regular file"));
  EXPECT_THAT(std::string(cache_.Store(Record()).message()), HasSubstr(cache_.path()));
  // And leaves nothing behind.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.Path("sub")), {}), 1);
}

TEST_F(CalibrationCacheTest, SaysWhatCannotBeWritten) {
  // No folder can be made below a file; so even root fails here.
  const std::string file = folder_.Write("file", "");
  const CalibrationCache cache(file + "/dla-serve/calibration.json");
  EXPECT_THAT(std::string(cache.Store(Record()).message()),
              AllOf(HasSubstr(file), HasSubstr("Not a directory")));
  EXPECT_THAT(cache.Find(Record().key).warning, IsEmpty());
  EXPECT_THAT(std::string(CalibrationCache("/proc/calibration.json").Store(Record()).message()),
              HasSubstr("/proc/calibration.json"));
}

TEST_F(CalibrationCacheTest, WithoutAPathFindsAndKeepsNothing) {
  const CalibrationCache cache("");
  EXPECT_TRUE(cache.Store(Record()).ok());
  EXPECT_FALSE(cache.Find(Record().key).record.has_value());
}

TEST_F(CalibrationCacheTest, StaysWholeWhileManyWriteAndRead) {
  std::vector<std::thread> threads;
  for (int writer = 0; writer < 4; ++writer) {
    threads.emplace_back([this, writer] {
      for (int i = 0; i < 50; ++i) {
        const CalibrationRecord record = Record(absl::StrCat("model", writer, "-", i));
        EXPECT_TRUE(cache_.Store(record).ok());
        EXPECT_THAT(cache_.Find(record.key).warning, IsEmpty());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.Path("sub")), {}), 1);
}

TEST_F(CalibrationCacheTest, ForgetsTheOldestOfVeryMany) {
  for (int i = 0; i < 210; ++i) ASSERT_TRUE(cache_.Store(Record(absl::StrCat("m", i))).ok());
  EXPECT_FALSE(cache_.Find(Record("m0").key).record.has_value());
  EXPECT_TRUE(cache_.Find(Record("m209").key).record.has_value());
  EXPECT_LT(std::filesystem::file_size(cache_.path()), 1u << 20);
}

TEST(CalibrationCachePathTest, FollowsTheRulesOfXdg) {
  setenv("HOME", "/home/me", 1);
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(CalibrationCachePath("auto"), "/home/me/.cache/dla-serve/calibration.json");
  setenv("XDG_CACHE_HOME", "/var/cache", 1);
  EXPECT_EQ(CalibrationCachePath("auto"), "/var/cache/dla-serve/calibration.json");
  setenv("XDG_CACHE_HOME", "relative", 1);  // "must be ignored"
  EXPECT_EQ(CalibrationCachePath("auto"), "/home/me/.cache/dla-serve/calibration.json");
  unsetenv("HOME");
  EXPECT_EQ(CalibrationCachePath("auto"), "");
  EXPECT_EQ(CalibrationCachePath("off"), "");
  EXPECT_EQ(CalibrationCachePath(""), "");
  EXPECT_EQ(CalibrationCachePath("/x/y.json"), "/x/y.json");
}

}  // namespace
}  // namespace dla::server
