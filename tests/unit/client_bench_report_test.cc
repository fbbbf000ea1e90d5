#include "client/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dla::client {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr cli::Terminal kPipe = {.utf8 = true};

BenchSetting Setting() {
  BenchSetting setting = {.address = "localhost:8001",
                          .model = "flowers\x1b",
                          .model_version = "3",
                          .photos = 1,
                          .connections = 2};
  setting.plan.concurrency = 8;
  setting.plan.warm_up = milliseconds(1500);
  return setting;
}

// 100 answers of 1 .. 100 ms in 4 s, 10 ms of which they waited to be sent.
BenchFigures Figures() {
  BenchFigures figures;
  for (int ms = 1; ms <= 100; ++ms) {
    figures.latency.Record(milliseconds(ms));
    figures.since_sent.Record(milliseconds(ms > 10 ? ms - 10 : 1));
  }
  figures.seconds = 4;
  figures.decode_ms = 150;
  figures.queue_ms = 25;
  figures.inference_ms = 1234;
  figures.batch_size = 320;
  return figures;
}

TEST(BenchTableTest, TellsWhatWasMeasuredAndHow) {
  EXPECT_THAT(BenchTable(Setting(), Figures(), kPipe),
              HasSubstr("flowers\\x1b version 3 at localhost:8001\n"
                        "8 in flight on 2 connections, 1 photo, 4.0 s after 1.5 s of warm-up\n\n"
                        "answered  100  25.0 images/s\n\n"
                        "ms             min   p50   p90   p95   p99 p99.9   max  mean\n"
                        "latency       1.00  50.0  89.9  95.0  99.1   100   100  50.5\n\n"
                        "in the server, mean: decode 1.50 ms, queue 0.250 ms, inference 12.3 ms, "
                        "batch of 3.2\n\n"));
}

TEST(BenchTableTest, TellsOfAnOpenLoopBothLatenciesAndWhatWasLate) {
  BenchSetting setting = Setting();
  setting.plan.concurrency = 0;
  setting.plan.rate = 25;
  BenchFigures figures = Figures();
  figures.late = 90;
  EXPECT_THAT(BenchTable(setting, figures, kPipe),
              AllOf(HasSubstr("25 a second (poisson) on 2 connections"),
                    HasSubstr("late       90  sent more than 1 ms after they were due\n"),
                    HasSubstr("since due     1.00  50.0"), HasSubstr("since sent    1.00  40.1")));
}

TEST(BenchTableTest, TellsFailuresByCode) {
  BenchFigures figures;
  figures.seconds = 2;
  figures.failed = 8;
  figures.interrupted = true;
  figures.unanswered = 4;
  figures.errors[absl::StatusCode::kResourceExhausted] = {7, "the queue\nis full"};
  figures.errors[absl::StatusCode::kUnavailable] = {1, "gone"};
  EXPECT_THAT(BenchTable(Setting(), figures, kPipe),
              AllOf(HasSubstr("; ended early\n\nanswered  0  0.0 images/s\n"
                              "failed    7  RESOURCE_EXHAUSTED: the queue\\nis full\n"
                              "failed    1  UNAVAILABLE: gone\n"
                              "given up  4  were still on their way\n"),
                    Not(HasSubstr("p99"))));
}

TEST(BenchJsonTest, IsOneLineWithAllFigures) {
  BenchFigures figures = Figures();
  figures.failed = 1;
  figures.errors[absl::StatusCode::kUnavailable] = {1, "\"gone\""};
  EXPECT_THAT(
      BenchJson(Setting(), figures),
      AllOf(
          HasSubstr(R"({"mode":"closed","concurrency":8,"server":"localhost:8001",)"
                    R"("model":"flowers\u001b","model_version":"3","connections":2,"photos":1,)"
                    R"("warm_up_s":1.5,"seconds":4,"interrupted":false,"answered":100,"failed":1,)"
                    R"("unanswered":0,"late":0,"images_per_second":25,"latency_ms":{"min":1,)"),
          HasSubstr(R"("max":100,"mean":50.5},"since_sent_ms":{"min":1,)"),
          HasSubstr(R"("server_ms":{"decode":1.5,"queue":0.25,"inference":12.34},)"
                    R"("mean_batch_size":3.2,"errors":[{"code":"UNAVAILABLE","count":1,)"
                    R"("first_message":"\"gone\""}],"histogram":[{"from_ms":1,"to_ms":1.1,)"
                    R"("count":1})"),
          HasSubstr("\"p99_9\":100,")));
}

TEST(BenchJsonTest, HasNoFiguresWhereNothingWasAnswered) {
  BenchSetting setting = Setting();
  setting.plan.concurrency = 0;
  setting.plan.rate = 0.5;
  setting.plan.arrivals = Arrivals::kConstant;
  EXPECT_THAT(BenchJson(setting, BenchFigures()),
              AllOf(HasSubstr(R"({"mode":"open","rate":0.5,"arrivals":"constant",)"),
                    HasSubstr(R"("images_per_second":0,"latency_ms":null,"since_sent_ms":null,)"
                              R"("server_ms":null,"mean_batch_size":null,"errors":[],)"
                              R"("histogram":[]})"
                              "\n")));
}

TEST(BenchProgressTest, TellsTheRateAndPercentilesSoFar) {
  BenchFigures figures = Figures();
  figures.failed = 3;
  EXPECT_EQ(BenchProgress(figures), "4 s  25.0 images/s  p50 50.0 ms  p99 99.1 ms  3 failed");
  EXPECT_EQ(BenchProgress(BenchFigures()), "warming up");
}

}  // namespace
}  // namespace dla::client
