// `dla-client bench`, run as a user runs it, against a fake server in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <future>
#include <latch>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_classifier.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

struct Outcome {
  int code = -1;
  std::string output;
  std::string errors;
  nlohmann::json json;  // null unless it was asked for
};

class ClientBenchTest : public ::testing::Test {
 protected:
  std::unique_ptr<Subprocess> Start(const FakeClassifier& server, std::vector<std::string> args,
                                    SubprocessOptions options = {}) {
    options.command = {ProgramPath("dla-client"), "bench", "--server", server.address()};
    options.command.insert(options.command.end(), args.begin(), args.end());
    options.environment.insert(options.environment.end(),
                               {{"LC_ALL", "C.UTF-8"}, {"TERM", "xterm"}});
    return *Subprocess::Start(std::move(options));
  }

  static Outcome Finish(Subprocess& process) {
    auto code = process.Wait();
    EXPECT_TRUE(code.ok()) << code.status();
    Outcome outcome = {code.value_or(-1), process.output(), process.errors(), {}};
    outcome.json = nlohmann::json::parse(outcome.output, nullptr, /*allow_exceptions=*/false);
    return outcome;
  }

  Outcome Run(const FakeClassifier& server, std::vector<std::string> args,
              SubprocessOptions options = {}) {
    return Finish(*Start(server, std::move(args), std::move(options)));
  }

  // So many photos with the bytes "0", "1", ...
  std::string Photos(int count) {
    for (int i = 0; i < count; ++i) {
      dir_.Write(absl::StrCat("photos/", 100 + i, ".jpg"), absl::StrCat(i));
    }
    return dir_.Path("photos");
  }

  TempDir dir_;
};

TEST_F(ClientBenchTest, ClosedLoopSendsThePhotosInTurnWithSoManyInFlight) {
  std::mutex mu;
  std::map<std::string, int> seen;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    {
      const std::lock_guard lock(mu);
      ++seen[request.image()];
    }
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  const Outcome outcome =
      Run(server, {Photos(4), "--requests", "40", "--warmup", "0", "-c", "3", "--format", "json"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.errors, "");
  const std::lock_guard lock(mu);
  EXPECT_THAT(seen, ElementsAre(Pair("0", 10), Pair("1", 10), Pair("2", 10), Pair("3", 10)));
  EXPECT_LE(server.most_at_once(), 3);
  const nlohmann::json& json = outcome.json;
  EXPECT_EQ(json["mode"], "closed");
  EXPECT_EQ(json["concurrency"], 3);
  EXPECT_EQ(json["model"], "flowers");
  EXPECT_EQ(json["photos"], 4);
  EXPECT_EQ(json["answered"], 40);
  EXPECT_EQ(json["failed"], 0);
  EXPECT_EQ(json["late"], 0);
  EXPECT_EQ(json["interrupted"], false);
  EXPECT_EQ(json["server_ms"]["decode"], 1.5);
  EXPECT_EQ(json["server_ms"]["queue"], 0.25);
  EXPECT_EQ(json["server_ms"]["inference"], 1000);
  EXPECT_EQ(json["mean_batch_size"], 3);
  int64_t in_histogram = 0;
  for (const auto& bin : json["histogram"]) in_histogram += bin["count"].get<int64_t>();
  EXPECT_EQ(in_histogram, 40);
  EXPECT_LE(json["latency_ms"]["p50"], json["latency_ms"]["p99"]);
  const double per_second = json["images_per_second"];
  EXPECT_NEAR(per_second * json["seconds"].get<double>(), 40, 0.0006 * per_second);
}

TEST_F(ClientBenchTest, ClosedLoopEndsByTheClockAndLeavesOutTheWarmUp) {
  std::atomic<bool> first = true;
  FakeClassifier server([&first](const auto& request, auto& context, auto& response) {
    if (first.exchange(false)) return grpc::Status(grpc::StatusCode::INTERNAL, "not warm yet");
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  // Two seconds, so that the first answer is there in time on a machine that does much else.
  const Outcome outcome =
      Run(server, {Photos(1), "--duration", "0.2", "--warmup", "2", "-c", "1", "-f", "json"});
  EXPECT_FALSE(first);
  EXPECT_EQ(outcome.json["seconds"], 0.2);
  EXPECT_EQ(outcome.json["warm_up_s"], 2);
  EXPECT_EQ(outcome.json["failed"], 0);
  EXPECT_LT(outcome.json["answered"], server.calls() - 1);
}

TEST_F(ClientBenchTest, OpenLoopMeasuresWhatIsDueAfterTheWarmUp) {
  FakeClassifier server;
  const Outcome outcome = Run(server, {Photos(1), "--rate", "100", "--arrivals", "constant",
                                       "--warmup", "0.105", "--duration", "0.2", "-f", "json"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(server.calls(), 31);
  EXPECT_EQ(outcome.json["answered"], 20);
}

TEST_F(ClientBenchTest, PassesOnWhatIsAskedFor) {
  std::mutex mu;
  dla::v1::ClassifyRequest seen;
  std::string token;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    const std::lock_guard lock(mu);
    seen = request;
    const auto it = context.client_metadata().find("authorization");
    if (it != context.client_metadata().end())
      token = std::string(it->second.data(), it->second.size());
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  const Outcome outcome = Run(
      server, {Photos(1), "-n", "1", "--warmup", "0", "--model", "dla34", "--top-k", "7",
               "--embedding", "--bulk", "--token-file", dir_.Write("token", "secret-of-mine\n")});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  const std::lock_guard lock(mu);
  EXPECT_EQ(seen.model(), "dla34");
  EXPECT_EQ(seen.top_k(), 7u);
  EXPECT_TRUE(seen.include_embedding());
  EXPECT_EQ(seen.priority(), dla::v1::PRIORITY_BULK);
  EXPECT_EQ(token, "Bearer secret-of-mine");
}

TEST_F(ClientBenchTest, EachConnectionIsOneOfItsOwn) {
  std::mutex mu;
  std::set<std::string> peers;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    {
      const std::lock_guard lock(mu);
      peers.insert(context.peer());
    }
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  const Outcome outcome =
      Run(server, {Photos(1), "-n", "30", "--warmup", "0", "--connections", "3"});
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  const std::lock_guard lock(mu);
  EXPECT_EQ(peers.size(), 3u);
  EXPECT_THAT(outcome.output, HasSubstr("8 in flight on 3 connections, 1 photo, "));
}

TEST_F(ClientBenchTest, CountsARefusalAndSendsNothingTwice) {
  FakeClassifier server([](const auto&, auto&, auto&) { return FakeClassifier::Busy(1); });
  const Outcome outcome = Run(server, {Photos(1), "-n", "20", "--warmup", "0", "-f", "json"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(server.calls(), 20);
  EXPECT_EQ(outcome.json["answered"], 0);
  EXPECT_EQ(outcome.json["failed"], 20);
  EXPECT_EQ(outcome.json["latency_ms"], nullptr);
  EXPECT_EQ(outcome.json["errors"],
            nlohmann::json::parse(R"([{"code":"RESOURCE_EXHAUSTED","count":20,)"
                                  R"("first_message":"the queue is full"}])"));
}

// The server answers one request at a time and takes 5 ms for each, 200 a second; 1000 a second are
// due. No call takes long, but callers come to wait for a fifth of a second and more. All bounds
// hold however slow this machine is.
TEST_F(ClientBenchTest, AServerThatIsSlowerThanTheRateCannotHideIt) {
  constexpr std::chrono::milliseconds kServiceTime(5);
  std::promise<void> never;
  const std::shared_future<void> service = never.get_future().share();
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    service.wait_for(kServiceTime);
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  const std::vector<std::string> args = {
      Photos(1),  "--warmup",        "0", "-n", "50", "--rate", "1000", "-f", "json", "--arrivals",
      "constant", "--max-in-flight", "1"};
  const nlohmann::json open = Run(server, args).json;
  ASSERT_EQ(open["answered"], 50);
  const double p99_since_due = open["latency_ms"]["p99"];
  const double p50_since_sent = open["since_sent_ms"]["p50"];
  EXPECT_GE(p99_since_due, 50 * 5 - 49 - 1);
  EXPECT_GT(p99_since_due, 10 * p50_since_sent);
  EXPECT_GE(open["late"], 45);
  EXPECT_LE(open["images_per_second"], 200);
  EXPECT_EQ(server.most_at_once(), 1);
}

TEST_F(ClientBenchTest, WhatCouldNotBeSentInItsTimeHasFailed) {
  std::promise<void> end;
  const std::shared_future<void> ended = end.get_future().share();
  FakeClassifier server([&](const auto&, auto&, auto&) {
    ended.wait();
    return grpc::Status::OK;
  });
  const Outcome outcome = Run(server, {Photos(1), "--warmup", "0", "-n", "5", "--rate", "1000",
                                       "--timeout", "0.05", "--max-in-flight", "1", "-f", "json"});
  end.set_value();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.json["failed"], 5);
  EXPECT_EQ(outcome.json["errors"][0]["code"], "DEADLINE_EXCEEDED");
  EXPECT_LT(server.calls(), 5);
}

TEST_F(ClientBenchTest, InterruptionEndsItWithTheFiguresSoFar) {
  std::latch four_are_stuck{4};
  std::promise<void> end;
  const std::shared_future<void> ended = end.get_future().share();
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    if (request.image() != "0" && request.image() != "1") {
      four_are_stuck.count_down();
      ended.wait();
    }
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  auto process =
      Start(server, {Photos(50), "--warmup", "0", "-d", "3600", "-c", "4", "-f", "json"});
  four_are_stuck.wait();
  process->Signal(SIGINT);
  const Outcome outcome = Finish(*process);
  end.set_value();
  EXPECT_EQ(outcome.code, 130);
  EXPECT_EQ(outcome.json["interrupted"], true);
  EXPECT_EQ(outcome.json["answered"], 2);
  EXPECT_EQ(outcome.json["unanswered"], 4);
  EXPECT_EQ(outcome.json["failed"], 0);
}

TEST_F(ClientBenchTest, ShowsProgressOnATerminalOnly) {
  FakeClassifier server;
  const std::vector<std::string> args = {Photos(1), "-d", "0.6", "--warmup", "0.3", "-f", "json"};
  SubprocessOptions options;
  options.stderr_is_terminal = true;
  const Outcome shown = Run(server, args, options);
  EXPECT_EQ(shown.code, 0);
  EXPECT_THAT(shown.errors, AllOf(StartsWith("\rwarming up\x1b[K"), HasSubstr(" images/s  p50 "),
                                  ContainsRegex("\r\x1b\\[K$")));
  EXPECT_THAT(shown.output, Not(HasSubstr("\x1b")));
  EXPECT_EQ(Run(server, args).errors, "");
}

TEST_F(ClientBenchTest, DrawsAHistogramAsWideAsTheTerminal) {
  FakeClassifier server;
  SubprocessOptions options;
  options.stdout_is_terminal = true;
  const Outcome outcome = Run(server, {Photos(1), "-n", "50", "--warmup", "0"}, options);
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("answered  50  "), HasSubstr("p99.9"),
                                    HasSubstr("in the server, mean: decode 1.50 ms"),
                                    ContainsRegex(" ms  .*█.*  [0-9]+ +[0-9.]+%\r\n$")));
}

TEST_F(ClientBenchTest, LeavesOutPhotosThatCannotBeRead) {
  FakeClassifier server;
  const std::string missing = dir_.Path("missing.jpg");
  const Outcome some = Run(server, {missing, Photos(2), "-n", "4", "--warmup", "0", "-f", "json"});
  EXPECT_EQ(some.code, 0);
  EXPECT_EQ(some.json["photos"], 2);
  EXPECT_THAT(some.errors, AllOf(StartsWith("1 of 3 photos failed:\n"), HasSubstr(missing)));
  const Outcome none = Run(server, {missing});
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.errors, HasSubstr("dla-client: no photo to send: name a file or a folder"));
  EXPECT_EQ(server.calls(), 4);
}

TEST_F(ClientBenchTest, SaysInOneLineThatNoServerIsThere) {
  FakeClassifier server;
  server.Stop();
  const Outcome outcome = Run(server, {Photos(1)});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.output, "");
  EXPECT_THAT(outcome.errors, StartsWith("dla-client: no server is available at "));
}

TEST_F(ClientBenchTest, WrongUsageIsToldInOneLine) {
  FakeClassifier server;
  const std::string photos = Photos(1);
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "PATH is required"},
      {{photos, "--rate", "10", "--concurrency", "2"}, "--concurrency excludes --rate"},
      {{photos, "--rate", "nan"}, "\"nan\" is no number of requests a second"},
      {{photos, "--rate", "0"}, "\"0\" is no number of requests a second"},
      {{photos, "--arrivals", "constant"}, "--arrivals requires --rate"},
      {{photos, "--duration", "-1"}, "\"-1\" is no number of seconds"},
      {{photos, "--warmup", "inf"}, "\"inf\" is no number of seconds"},
      {{photos, "--requests", "0"}, "--requests"},
      {{photos, "--connections", "1000"}, "--connections"},
      {{photos, "--format", "csv"}, "--format"},
  };
  for (const auto& [args, message] : cases) {
    const Outcome outcome = Run(server, args);
    EXPECT_EQ(outcome.code, 2) << message;
    EXPECT_THAT(outcome.errors, AllOf(StartsWith("dla-client: "), HasSubstr(message)));
  }
  EXPECT_EQ(server.calls(), 0);
}

}  // namespace
}  // namespace dla::testing
