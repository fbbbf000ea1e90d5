#include "server/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ErrorOf(const std::vector<std::string>& args) {
  const absl::Status status = ParseCommandLine(args).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

ServerConfig ConfigOf(const std::vector<std::string>& args) {
  absl::StatusOr<CommandLine> line = ParseCommandLine(args);
  EXPECT_TRUE(line.ok()) << line.status();
  return line.ok() ? line->config : ServerConfig{};
}

class YamlConfigTest : public ::testing::Test {
 protected:
  ServerConfig Read(const std::string& yaml, std::vector<std::string> flags = {}) {
    return ConfigOf(Args(yaml, std::move(flags)));
  }
  std::string Refuse(const std::string& yaml) { return ErrorOf(Args(yaml, {})); }

 private:
  std::vector<std::string> Args(const std::string& yaml, std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--config", folder_.Write("serve.yaml", yaml)});
    return flags;
  }

  dla::testing::TempDir folder_;
};

TEST(CommandLineTest, ServesTheEmbeddedModelOnTritonsPortsByDefault) {
  const ServerConfig config = ConfigOf({});
  EXPECT_TRUE(config.models.empty());
  EXPECT_EQ(config.http_address, "0.0.0.0:8000");
  EXPECT_EQ(config.grpc_address, "0.0.0.0:8001");
  EXPECT_EQ(config.metrics_address, "0.0.0.0:8002");
}

TEST(CommandLineTest, TakesSeveralModelsInTheirOrderWithTheFlagsSettings) {
  const ServerConfig config =
      ConfigOf({"--model", "b=/models/b", "--model", "a=/models/x=y", "--max-batch", "4"});
  ASSERT_EQ(config.models.size(), 2u);
  EXPECT_EQ(config.models[0].name, "b");
  EXPECT_EQ(config.models[1].name, "a");
  EXPECT_EQ(config.models[1].folder, "/models/x=y");
  EXPECT_EQ(config.models[0].settings.max_batch, 4);
}

TEST(CommandLineTest, ALaterFlagOverridesAnEarlierOne) {
  EXPECT_EQ(ConfigOf({"--max-batch", "4", "--max-batch", "8"}).defaults.max_batch, 8);
}

TEST(CommandLineTest, NamesTheFlagAndTheValueThatAreWrong) {
  EXPECT_THAT(ErrorOf({"--max-batch", "0"}), HasSubstr("--max-batch"));
  EXPECT_THAT(ErrorOf({"--max-batch", "many"}), HasSubstr("many"));
  EXPECT_THAT(ErrorOf({"--no-such-flag"}), HasSubstr("--no-such-flag"));
  EXPECT_THAT(ErrorOf({"--precision", "fp8"}), HasSubstr("fp8"));
  EXPECT_THAT(ErrorOf({"--device", "tpu"}),
              HasSubstr("\"tpu\" is not auto, cpu, cuda, cuda:N or cuda:N,M"));
  EXPECT_THAT(ErrorOf({"--device", "cuda:x"}), HasSubstr("cuda:x"));
  EXPECT_THAT(ErrorOf({"--grpc-address", "8001"}), HasSubstr("\"8001\" is not HOST:PORT"));
  EXPECT_THAT(ErrorOf({"--grpc-address", "host:70000"}), HasSubstr("host:70000"));
  EXPECT_THAT(ErrorOf({"--model", "dla34"}), HasSubstr("\"dla34\" is not NAME=DIR"));
  EXPECT_THAT(ErrorOf({"--model", "=x"}), HasSubstr("NAME=DIR"));
}

TEST(CommandLineTest, ReadsWhenModelsAreLoadedAndWhatTheirVersionsAreCalled) {
  EXPECT_EQ(ConfigOf({}).model_control, "none");
  EXPECT_EQ(ConfigOf({}).repository_poll_seconds, 15);
  const ServerConfig config =
      ConfigOf({"--model-control", "explicit", "--load-model", "a", "--load-model", "b",
                "--version-label", "a:stable=2", "--version-label", "a:canary=3"});
  EXPECT_EQ(config.load_models, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(config.version_labels.at("a"), (VersionLabels{{"canary", "3"}, {"stable", "2"}}));
  EXPECT_THAT(ErrorOf({"--version-label", "a"}), HasSubstr("\"a\" is not MODEL:LABEL=VERSION"));
  EXPECT_THAT(ErrorOf({"--version-label", "a:stable=new"}), HasSubstr("\"new\""));
  EXPECT_THAT(ErrorOf({"--version-label", "a:7=1"}), HasSubstr("\"7\""));
  EXPECT_THAT(ErrorOf({"--load-model", "a"}), HasSubstr("--model-control explicit"));
  EXPECT_THAT(ErrorOf({"--model-control", "always"}), HasSubstr("always"));
}

TEST_F(YamlConfigTest, TakesAListWhereAFlagMayBeRepeated) {
  const ServerConfig config = Read(
      "model-control: explicit\nload-model: [a, b]\nversion-label:\n  - a:stable=2\n"
      "  - b:stable=1\n");
  EXPECT_EQ(config.load_models, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(config.version_labels.size(), 2u);
  EXPECT_EQ(Read("version-label: a:stable=2", {"--version-label", "c:stable=1"}).version_labels,
            (std::map<std::string, VersionLabels>{{"c", {{"stable", "1"}}}}));
  EXPECT_THAT(Refuse("max-batch: [1, 2]"), HasSubstr("takes a single value"));
  EXPECT_THAT(Refuse("version-label: [[a]]"), HasSubstr(":1:"));
}

TEST(CommandLineTest, LeavesReplicasThreadsAndBatchToCalibrationUnlessTheyAreGiven) {
  ServerConfig config = ConfigOf({});
  EXPECT_EQ(config.defaults.replicas, 0);
  EXPECT_EQ(config.defaults.threads, 0);
  EXPECT_EQ(config.defaults.max_batch, 0);
  EXPECT_EQ(config.defaults.optimize, "throughput");
  EXPECT_TRUE(config.calibrate);
  EXPECT_EQ(config.calibration_cache, "auto");

  config = ConfigOf({"--replicas", "auto", "--threads=2", "--max-batch", "auto", "--optimize",
                     "latency", "--calibration-cache", "off", "--calibrate", "false"});
  EXPECT_EQ(config.defaults.replicas, 0);
  EXPECT_EQ(config.defaults.threads, 2);
  EXPECT_EQ(config.defaults.max_batch, 0);
  EXPECT_EQ(config.defaults.optimize, "latency");
  EXPECT_FALSE(config.calibrate);
  EXPECT_EQ(config.calibration_cache, "off");

  EXPECT_EQ(ConfigOf({"--replicas", "0"}).defaults.replicas, 0);  // so it was before auto
  EXPECT_EQ(ConfigOf({"--replicas", "3", "--replicas", "auto"}).defaults.replicas, 0);
}

TEST(CommandLineTest, NamesWhatIsNeitherANumberNorAuto) {
  EXPECT_THAT(ErrorOf({"--replicas", "all"}),
              AllOf(HasSubstr("--replicas"),
                    HasSubstr("\"all\" is not auto or a whole number from 1 to 256")));
  EXPECT_THAT(ErrorOf({"--replicas", "257"}), HasSubstr("257"));
  EXPECT_THAT(ErrorOf({"--threads", "-1"}), HasSubstr("\"-1\" is not auto"));
  EXPECT_THAT(ErrorOf({"--threads", "1.5"}), HasSubstr("1.5"));
  EXPECT_THAT(ErrorOf({"--max-batch", ""}), HasSubstr("--max-batch"));
  EXPECT_THAT(ErrorOf({"--optimize", "speed"}), HasSubstr("speed"));
}

TEST(CommandLineTest, TakesTheResponseCacheAsTritonsUsersWriteIt) {
  EXPECT_EQ(ConfigOf({}).cache_bytes, 0);
  EXPECT_TRUE(ConfigOf({}).defaults.cache);
  EXPECT_EQ(ConfigOf({"--cache-config", "local,size=1048576"}).cache_bytes, 1048576);
  EXPECT_EQ(ConfigOf({"--cache-config=local,size=99999999999"}).cache_bytes, 99999999999);
  EXPECT_EQ(ConfigOf({"--cache-config", "local,size=1", "--cache-config", "none"}).cache_bytes, 0);
  EXPECT_FALSE(ConfigOf({"--cache", "false"}).defaults.cache);
  for (const std::string wrong :
       {"1048576", "local", "local,size=", "local,size=0", "local,size=-5", "local,size=1e6",
        "redis,host=x", "local,size=99999999999999999999"}) {
    EXPECT_THAT(ErrorOf({"--cache-config", wrong}),
                HasSubstr("\"" + wrong + "\" is not none or local,size=BYTES"));
  }
}

TEST(CommandLineTest, SharedMemoryIsOffUnlessAllowed) {
  EXPECT_FALSE(ConfigOf({}).allow_shared_memory);
  EXPECT_TRUE(ConfigOf({"--allow-shared-memory", "true"}).allow_shared_memory);
  EXPECT_THAT(ErrorOf({"--allow-shared-memory", "maybe"}), HasSubstr("maybe"));
}

TEST(CommandLineTest, BudgetsTakeTheLargestRequestAndPhoto) {
  const auto line = ParseCommandLine({"--max-bytes-in-flight", "64000000", "--max-message-bytes",
                                      "64000000", "--model-max-pixels-in-flight", "100000000"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->config.max_bytes_in_flight, 64'000'000);
  EXPECT_EQ(line->config.defaults.max_pixels_in_flight, 100'000'000);
  EXPECT_THAT(ErrorOf({"--max-bytes-in-flight", "1000000"}),
              HasSubstr("--max-bytes-in-flight 1000000 is less than --max-message-bytes 33554432"));
  EXPECT_THAT(ErrorOf({"--max-pixels", "2000000000"}),
              HasSubstr("--max-pixels-in-flight 1000000000 is less than --max-pixels 2000000000"));
  EXPECT_THAT(ErrorOf({"--model-max-pixels-in-flight", "5"}),
              HasSubstr("--model-max-pixels-in-flight 5 is less"));
  EXPECT_TRUE(ParseCommandLine({"--max-bytes-in-flight", "0"}).ok());
}

TEST(CommandLineTest, PrintsHelpAndVersionInsteadOfServing) {
  EXPECT_THAT(ParseCommandLine({"--help"})->print_and_exit, HasSubstr("--max-queue-delay-us"));
  EXPECT_THAT(ParseCommandLine({"--version"})->print_and_exit, HasSubstr("dla-server "));
}

TEST_F(YamlConfigTest, KeysAreTheFlagsNames) {
  const ServerConfig config = Read(
      "grpc-address: 127.0.0.1:9\nmax-batch: 3\nexif-orientation: false\nmax-pixels: 5000000\n");
  EXPECT_EQ(config.grpc_address, "127.0.0.1:9");
  EXPECT_EQ(config.defaults.max_batch, 3);
  EXPECT_FALSE(config.exif_orientation);
  EXPECT_EQ(config.max_pixels, 5'000'000);
}

TEST_F(YamlConfigTest, AModelMayHaveABatchTimeoutOfItsOwn) {
  EXPECT_EQ(ConfigOf({}).defaults.batch_timeout_ms, 30'000);
  const ServerConfig config =
      Read("batch-timeout-ms: 5000\nmodels:\n  a: {path: x, batch-timeout-ms: 0}\n  b: y\n");
  EXPECT_EQ(config.models.at(0).settings.batch_timeout_ms, 0);
  EXPECT_EQ(config.models.at(1).settings.batch_timeout_ms, 5000);
  EXPECT_THAT(ErrorOf({"--batch-timeout-ms", "-1"}), HasSubstr("--batch-timeout-ms"));
}

TEST_F(YamlConfigTest, AModelMayStayOutOfTheResponseCache) {
  const ServerConfig config =
      Read("cache-config: local,size=5000\nmodels: {a: /a, b: {path: /b, cache: false}}\n");
  EXPECT_EQ(config.cache_bytes, 5000);
  EXPECT_TRUE(config.models.at(0).settings.cache);
  EXPECT_FALSE(config.models.at(1).settings.cache);
}

TEST_F(YamlConfigTest, FlagsWinOverTheFile) {
  EXPECT_EQ(Read("max-batch: 3\nreplicas: 7\n", {"--max-batch", "9"}).defaults.max_batch, 9);
  EXPECT_EQ(Read("max-batch: 3\nreplicas: 7\n", {"--max-batch", "9"}).defaults.replicas, 7);
}

TEST_F(YamlConfigTest, ModelsMayOverrideTheSettingsOfAll) {
  const ServerConfig config = Read(
      "models:\n"
      "  plain: /models/plain\n"
      "  tuned: {path: /models/tuned, max-batch: 2, precision: fp32}\n"
      "max-batch: 5\n");
  ASSERT_EQ(config.models.size(), 2u);
  EXPECT_EQ(config.models[0].name, "plain");
  EXPECT_EQ(config.models[0].folder, "/models/plain");
  EXPECT_EQ(config.models[0].settings.max_batch, 5);
  EXPECT_EQ(config.models[1].settings.max_batch, 2);
  EXPECT_EQ(config.models[1].settings.precision, "fp32");
}

TEST_F(YamlConfigTest, ModelsMayBeLeftToCalibrationOrNot) {
  const ServerConfig config = Read(
      "models:\n"
      "  a: {path: /models/a, replicas: auto, optimize: latency}\n"
      "  b: {path: /models/b, threads: 1, max-batch: auto}\n"
      "replicas: 2\nmax-batch: 8\ncalibrate: false\ncalibration-cache: /var/c.json\n");
  ASSERT_EQ(config.models.size(), 2u);
  EXPECT_EQ(config.models[0].settings.replicas, 0);
  EXPECT_EQ(config.models[0].settings.max_batch, 8);
  EXPECT_EQ(config.models[0].settings.optimize, "latency");
  EXPECT_EQ(config.models[1].settings.replicas, 2);
  EXPECT_EQ(config.models[1].settings.max_batch, 0);
  EXPECT_EQ(config.models[1].settings.optimize, "throughput");
  EXPECT_FALSE(config.calibrate);
  EXPECT_EQ(config.calibration_cache, "/var/c.json");
  EXPECT_THAT(Refuse("models:\n  a: {path: /x, replicas: some}\n"),
              AllOf(HasSubstr("serve.yaml:2: "), HasSubstr("\"some\" is not auto")));
}

TEST_F(YamlConfigTest, AnEmptyFileChangesNothing) {
  EXPECT_EQ(Read("# nothing\n").defaults.max_batch, ConfigOf({}).defaults.max_batch);
}

TEST_F(YamlConfigTest, NamesTheLineOfWhatIsWrong) {
  EXPECT_THAT(Refuse("max-batch: 3\n\nmax-bach: 4\n"),
              HasSubstr("serve.yaml:3: unknown key \"max-bach\""));
  EXPECT_THAT(Refuse("max-batch: 3\nprecision: fp8\n"), HasSubstr("serve.yaml:2: "));
  EXPECT_THAT(Refuse("models:\n  a: {path: /x, batch: 3}\n"),
              HasSubstr("serve.yaml:2: unknown key \"batch\""));
  EXPECT_THAT(Refuse("models:\n  a: {max-batch: 3}\n"), HasSubstr("model \"a\" has no folder"));
  EXPECT_THAT(Refuse("models: [a, b]\n"), HasSubstr("serve.yaml:1: \"models\" is not a map"));
  EXPECT_THAT(Refuse("model: a=b\n"), HasSubstr("list models as models: {NAME: DIR}"));
  EXPECT_THAT(Refuse("max-batch: [1, 2]\n"), HasSubstr("takes a single value"));
  EXPECT_THAT(Refuse("a: b: c\n"), HasSubstr("serve.yaml:1: "));
  EXPECT_THAT(Refuse("- a\n"), HasSubstr("not a map"));
  EXPECT_THAT(Refuse("config: other.yaml\n"), HasSubstr("unknown key \"config\""));
}

TEST(CommandLineTest, NamesTheFileThatCannotBeRead) {
  EXPECT_THAT(ErrorOf({"--config", "/no/such.yaml"}), HasSubstr("\"/no/such.yaml\""));
}

}  // namespace
}  // namespace dla::server
