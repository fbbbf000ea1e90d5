#include "server/calibrator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <sstream>

#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"
#include "tests/support/fake_model.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// On the machine's clock and a model that takes no time, so what is chosen is not told before; what
// the choice is must not depend on that here.
class CalibratorTest : public ::testing::Test {
 protected:
  CalibratorTest() : before_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(log_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
    spdlog::set_pattern("%l %v");
  }
  ~CalibratorTest() override { spdlog::set_default_logger(before_); }

  // What the log says of it is in Log().
  Share Choose(const ModelSettings& settings, const std::string& cache = "", bool measure = true) {
    log_.str("");
    Calibrator calibrator({.measure = measure,
                           .limits = CombineCpuLimits(64, 64, 2.0),
                           .cache_path = cache,
                           .program = "test",
                           .budget = std::chrono::milliseconds(1)},
                          Clock::Real());
    return calibrator.Choose("pets", settings, model_);
  }
  std::string Log() { return log_.str(); }
  size_t RunsSoFar() { return model_.batches().size(); }

  dla::testing::TempDir folder_;
  FakeModel model_;

 private:
  std::ostringstream log_;
  const std::shared_ptr<spdlog::logger> before_;
};

TEST_F(CalibratorTest, MeasuresNothingWhereNothingIsOpen) {
  EXPECT_EQ(Choose({.replicas = 3, .threads = 2, .max_batch = 5}, folder_.Path("c.json")),
            (Share{3, 2, 5}));
  EXPECT_EQ(RunsSoFar(), 0u);
  EXPECT_EQ(Log(), "");
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("c.json")));
}

TEST_F(CalibratorTest, GoesByTheRuleWhereMeasuringIsSwitchedOff) {
  EXPECT_EQ(Choose({}, folder_.Path("c.json"), false), (Share{2, 1, 8}));
  EXPECT_EQ(RunsSoFar(), 0u);
}

TEST_F(CalibratorTest, MeasuresOnceAndReadsTheResultLater) {
  const std::string cache = folder_.Path("c.json");
  Share share;
  // Where the machine is busy the result is used but not kept, so it may take a few turns.
  do {
    share = Choose({}, cache);
    EXPECT_THAT(Log(), HasSubstr("calibrated model=pets optimize=throughput replicas="));
    EXPECT_THAT(Log(), HasSubstr(" tried=\""));
  } while (!std::filesystem::exists(cache));
  EXPECT_THAT(Log(), HasSubstr("kept=" + cache));
  EXPECT_TRUE(IsFixed(share));
  EXPECT_LE(share.replicas * share.threads, 2);

  const size_t runs = RunsSoFar();
  EXPECT_GT(runs, 0u);
  EXPECT_EQ(Choose({}, cache), share);
  EXPECT_EQ(RunsSoFar(), runs);
  EXPECT_THAT(Log(), AllOf(HasSubstr("read=" + cache), Not(HasSubstr("tried="))));

  // Not for other wishes.
  Choose({.max_batch = 2}, cache);
  EXPECT_GT(RunsSoFar(), runs);
}

TEST_F(CalibratorTest, WarnsOfADamagedFileAndMeasures) {
  const std::string cache = folder_.Write("c.json", "{");
  Choose({}, cache);
  EXPECT_THAT(Log(), AllOf(HasSubstr("warning calibration file " + cache),
                           HasSubstr("calibrated model=pets")));
}

TEST_F(CalibratorTest, AFileThatCannotBeWrittenIsAWarning) {
  const std::string file = folder_.Write("file", "");
  const std::string cache = file + "/c.json";
  do {
    EXPECT_TRUE(IsFixed(Choose({}, cache)));
    EXPECT_THAT(Log(), HasSubstr("warning the calibration of model=pets is not kept"));
  } while (Log().find("other programs") != std::string::npos);
  EXPECT_THAT(Log(), AllOf(HasSubstr(file), HasSubstr("--calibration-cache")));
}

TEST_F(CalibratorTest, GoesByTheRuleWhereTheModelCannotRun) {
  model_.FailWith(absl::ResourceExhaustedError("out of memory"));
  EXPECT_EQ(Choose({}, folder_.Path("c.json")), (Share{2, 1, 8}));
  EXPECT_THAT(Log(), AllOf(HasSubstr("warning "), HasSubstr("pets"), HasSubstr("out of memory")));
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("c.json")));
}

}  // namespace
}  // namespace dla::server
