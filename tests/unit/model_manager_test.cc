// Models that come, change and go while photos are answered; folders are real, networks are fake.
#include "server/model_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "server/pipeline.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::string_view kPhoto = "\x02";

class ModelManagerTest : public ::testing::Test {
 protected:
  // Serves what the folder holds as `config` says. A config.json that says "bad" cannot be loaded,
  // one that says "wrong" fails the self-test.
  absl::Status Start(const std::string& control, ServerConfig config = {}) {
    config.model_control = control;
    if (config.models.empty()) config.model_repository = folder_.Path();
    auto load = [this](const ModelFolder& folder) -> absl::StatusOr<std::unique_ptr<const Model>> {
      if (Content(folder) == "bad") return absl::InvalidArgumentError("not a model");
      auto model = std::make_unique<FakeModel>();
      last_loaded_ = model.get();
      ++loads_;
      return model;
    };
    auto test = [](const ModelFolder& folder, const Model&) {
      return Content(folder) == "wrong" ? absl::InternalError("the self-test disagrees")
                                        : absl::OkStatus();
    };
    manager_ = std::make_unique<ModelManager>(
        config,
        std::make_unique<ModelLoader>(
            load, test, Calibrator({.measure = false, .limits = {.cores = 1}}, clock_),
            ModelLoader::Context{.metrics = metrics_, .reaper = reaper_, .clock = clock_}),
        registry_, clock_);
    if (absl::Status loaded = manager_->LoadInitial(); !loaded.ok()) return loaded;
    manager_->Start([this](const std::string& name, bool serving) {
      health_.push_back(absl::StrCat(name, serving ? " up" : " down"));
    });
    return absl::OkStatus();
  }

  static std::string Content(const ModelFolder& folder) {
    return folder.path.empty() ? "" : dla::testing::ReadFile(folder.path + "/config.json");
  }

  void Write(const std::string& model, const std::string& content = "{}") {
    folder_.Write(model + "/config.json", content);
  }

  template <typename Call>
  absl::Status Await(Call call) {
    std::promise<absl::Status> promise;
    call([&promise](absl::Status status) { promise.set_value(std::move(status)); });
    return promise.get_future().get();
  }
  absl::Status Load(const std::string& name, const std::string& json = "") {
    return Await([&](ModelManager::Done done) { manager_->Load(name, json, std::move(done)); });
  }
  absl::Status Unload(const std::string& name) {
    return Await([&](ModelManager::Done done) { manager_->Unload(name, std::move(done)); });
  }
  absl::Status SetLabels(std::map<std::string, VersionLabels> labels) {
    return Await(
        [&](ModelManager::Done done) { manager_->SetLabels(std::move(labels), std::move(done)); });
  }

  // The next look of a poll, over when this returns.
  void Look() {
    clock_.Advance(std::chrono::seconds(15));
    ASSERT_TRUE(SetLabels({}).ok());  // its turn comes after the look
  }

  std::vector<std::string> Index() {
    std::vector<std::string> lines;
    for (const ModelState& state : manager_->Index()) {
      lines.push_back(absl::StrCat(state.name, ":", state.version, " ", state.state,
                                   state.reason.empty() ? "" : ": ", state.reason));
    }
    return lines;
  }

  // What dla_model_load_failed says: "", "load" or "self_test".
  std::string LoadFailure(const std::string& model) {
    const LoadMetrics loads = metrics_.ForLoads(model);
    return absl::StrCat(loads.failed->Value() == 1 ? "load" : "",
                        loads.self_test_failed->Value() == 1 ? "self_test" : "");
  }

  std::string Found(const std::string& name, const std::string& version = "") {
    const auto model = registry_.Find(name, version);
    return model.ok() ? (*model)->version() : "none";
  }

  std::future<absl::StatusOr<Answer>> Classify(std::shared_ptr<ServedModel> model) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<Answer>>>();
    pipeline_.Submit(std::move(model), EncodedPhoto{kPhoto},
                     {.options = {.top_k = 1}, .done = [promise](absl::StatusOr<Answer> a) {
                        promise->set_value(std::move(a));
                      }});
    return promise->get_future();
  }

  dla::testing::TempDir folder_;
  FakeClock clock_;
  Metrics metrics_;
  const FakeModel* last_loaded_ = nullptr;
  std::atomic<int> loads_ = 0;
  std::vector<std::string> health_;  // of the manager's thread, read once a task is done
  Reaper reaper_;
  ModelRegistry registry_;
  Pipeline pipeline_{{.decode_threads = 1}, FakeDecode, clock_};
  std::unique_ptr<ModelManager> manager_;
};

TEST_F(ModelManagerTest, ReplacingAModelUnderLoadLosesNoPhoto) {
  Write("m");
  ASSERT_TRUE(Start("explicit", {.load_models = {"m"}}).ok());
  std::atomic<bool> stop = false;
  std::atomic<int> answered = 0;
  std::atomic<int> failed = 0;
  std::thread load([&] {
    while (!stop) {
      auto model = registry_.Find("m");
      const bool ok = model.ok() && Classify(*std::move(model)).get().ok();
      ++(ok ? answered : failed);
    }
  });
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Load("m").ok());
  while (answered < 20) std::this_thread::yield();
  stop = true;
  load.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(loads_, 21);
}

TEST_F(ModelManagerTest, UnloadingAnswersThePhotosThatWait) {
  Write("m");
  ASSERT_TRUE(Start("explicit", {.load_models = {"m"}}).ok());
  auto* fake = const_cast<FakeModel*>(last_loaded_);
  fake->Hold();
  std::vector<std::future<absl::StatusOr<Answer>>> answers;
  for (int i = 0; i < 5; ++i) answers.push_back(Classify(*registry_.Find("m")));
  fake->AwaitRuns(1);
  EXPECT_TRUE(Unload("m").ok());
  EXPECT_EQ(Found("m"), "none");
  EXPECT_THAT(Index(), ElementsAre("m:1 UNLOADING: unloaded"));
  fake->Release();
  // The last one to let go of the model is its own replica.
  for (auto& answer : answers) EXPECT_TRUE(answer.get().ok());
  EXPECT_THAT(health_, ElementsAre("m down"));
  EXPECT_TRUE(Unload("m").ok());  // once more does no harm
}

TEST_F(ModelManagerTest, AFailedLoadLeavesTheOldModelServingAndSaysWhy) {
  Write("m");
  ASSERT_TRUE(Start("explicit", {.load_models = {"m"}}).ok());
  const auto before = *registry_.Find("m");
  Write("m", "bad");
  EXPECT_THAT(std::string(Load("m").message()), HasSubstr("cannot load model \"m\": not a model"));
  EXPECT_EQ(*registry_.Find("m"), before);
  EXPECT_THAT(Index(), ElementsAre(AllOf(HasSubstr("m:1 READY"), HasSubstr("not a model"))));
  EXPECT_EQ(LoadFailure("m"), "load");
  Write("m");
  EXPECT_TRUE(Load("m").ok());
  EXPECT_EQ(LoadFailure("m"), "");
  EXPECT_NE(*registry_.Find("m"), before);
  EXPECT_THAT(Index(), ElementsAre("m:1 READY"));
}

TEST_F(ModelManagerTest, ANewVersionThatFailsItsSelfTestIsNotServed) {
  Write("m/1");
  ASSERT_TRUE(Start("explicit", {.load_models = {"m"}}).ok());
  Write("m/2", "wrong");
  EXPECT_EQ(Load("m").code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Found("m"), "1");
  EXPECT_THAT(Index(), ElementsAre("m:1 READY",
                                   AllOf(HasSubstr("m:2 UNAVAILABLE"), HasSubstr("disagrees"))));
  EXPECT_EQ(LoadFailure("m"), "self_test");
}

TEST_F(ModelManagerTest, ABadVersionThatIsTakenAwayIsNoFailureAnyMore) {
  Write("good");
  Write("m/1");
  Write("n", "bad");
  ASSERT_TRUE(Start("poll").ok());
  EXPECT_EQ(LoadFailure("n"), "load");
  Write("m/2", "wrong");
  Look();
  Look();
  EXPECT_EQ(LoadFailure("m"), "self_test");
  std::filesystem::remove_all(folder_.Path("m/2"));
  std::filesystem::remove_all(folder_.Path("n"));
  Look();
  Look();
  EXPECT_EQ(LoadFailure("m"), "");
  EXPECT_EQ(LoadFailure("n"), "");
  EXPECT_EQ(LoadFailure("good"), "");
}

TEST_F(ModelManagerTest, ExplicitLoadsOnlyWhatIsNamed) {
  Write("a");
  Write("b");
  ASSERT_TRUE(Start("explicit", {.load_models = {"b"}}).ok());
  EXPECT_EQ(Found("a"), "none");
  EXPECT_THAT(Index(), ElementsAre("a: UNAVAILABLE", "b:1 READY"));
  EXPECT_TRUE(Load("a").ok());
  EXPECT_EQ(Found("a"), "1");
  EXPECT_THAT(health_, ElementsAre("a up"));
  const absl::Status unknown = Load("c");
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(unknown.message()), AllOf(HasSubstr("\"c\""), HasSubstr("a, b")));
  EXPECT_EQ(Unload("c").code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelManagerTest, ExplicitServesTheEmbeddedModelWhenNoneIsNamed) {
  Write("a");
  ASSERT_TRUE(Start("explicit").ok());
  EXPECT_EQ(Found("flowers5"), "1");
  EXPECT_EQ(Found("a"), "none");
}

TEST_F(ModelManagerTest, AStartThatNamesAnUnknownModelFails) {
  Write("a");
  EXPECT_THAT(std::string(Start("explicit", {.load_models = {"x"}}).message()), HasSubstr("\"x\""));
  EXPECT_THAT(std::string(Start("none", {.version_labels = {{"x", {}}}}).message()),
              HasSubstr("\"x\""));
}

TEST_F(ModelManagerTest, RefusesControlUnlessItIsExplicit) {
  Write("m");
  ASSERT_TRUE(Start("none").ok());
  EXPECT_FALSE(manager_->accepts_control());
  EXPECT_EQ(Load("m").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Unload("m").message()), HasSubstr("--model-control explicit"));
  EXPECT_EQ(Found("m"), "1");
}

TEST_F(ModelManagerTest, NamesWhatIsWrongInAConfig) {
  Write("m");
  ASSERT_TRUE(Start("explicit", {.load_models = {"m"}}).ok());
  const auto error = [&](const std::string& json) {
    const absl::Status status = Load("m", json);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    return std::string(status.message());
  };
  EXPECT_THAT(error("{"), HasSubstr("not a JSON object"));
  EXPECT_THAT(error("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(error(R"({"max_batch_size": 8})"), HasSubstr("\"max_batch_size\""));
  EXPECT_THAT(error(R"({"version_labels": 1})"), HasSubstr("\"version_labels\""));
  EXPECT_THAT(error(R"({"version_labels": {"stable": "x"}})"), HasSubstr("\"stable\""));
  EXPECT_THAT(error(R"({"version_labels": {"stable": -1}})"), HasSubstr("\"stable\""));
  EXPECT_THAT(error(R"({"version_labels": {"7": 1}})"), HasSubstr("\"7\""));
  EXPECT_EQ(loads_, 1);
}

TEST_F(ModelManagerTest, LabelsSwitchVersionsWithoutLoadingThemAgain) {
  Write("m/1");
  Write("m/2");
  ASSERT_TRUE(Start("none", {.version_labels = {{"m", {{"stable", "1"}}}}}).ok());
  EXPECT_EQ(Found("m"), "1");
  EXPECT_EQ(Found("m", "2"), "2");
  EXPECT_TRUE(SetLabels({{"m", {{"stable", "2"}, {"old", "1"}}}}).ok());
  EXPECT_EQ(Found("m"), "2");
  EXPECT_EQ(Found("m", "old"), "1");
  EXPECT_EQ(loads_, 2);
  EXPECT_EQ(SetLabels({{"m", {{"stable", "3"}}}}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Found("m"), "2");
}

TEST_F(ModelManagerTest, ARequestToLoadMaySetLabels) {
  Write("m/1");
  Write("m/2");
  ASSERT_TRUE(Start("explicit", {.load_models = {"m"}}).ok());
  EXPECT_TRUE(Load("m", R"({"version_labels": {"stable": 1}})").ok());
  EXPECT_EQ(Found("m"), "1");
  EXPECT_TRUE(Load("m").ok());  // keeps them
  EXPECT_EQ(Found("m", "stable"), "1");
}

TEST_F(ModelManagerTest, APollLoadsReloadsAndUnloadsWhatChanged) {
  Write("a");
  ASSERT_TRUE(Start("poll").ok());
  Write("b/1");
  Look();
  EXPECT_EQ(Found("b"), "none");  // perhaps still being written
  Look();
  EXPECT_EQ(Found("b"), "1");
  Write("b/2");
  Look();
  Look();
  EXPECT_EQ(Found("b"), "2");
  std::filesystem::remove_all(folder_.Path("a"));
  Look();
  EXPECT_EQ(Found("a"), "none");
  EXPECT_EQ(loads_, 3);
}

TEST_F(ModelManagerTest, APollWaitsForAFolderThatIsStillBeingWritten) {
  Write("m", "{}");
  ASSERT_TRUE(Start("poll").ok());
  for (const char* half : {"{ ", "{  ", "{   "}) {
    Write("m", half);
    Look();
  }
  EXPECT_EQ(loads_, 1);
  Look();
  EXPECT_EQ(loads_, 2);
  Look();
  EXPECT_EQ(loads_, 2);
}

TEST_F(ModelManagerTest, APollTriesABadFolderAgainOnceItChanges) {
  Write("good");
  Write("m", "bad");
  ASSERT_TRUE(Start("poll").ok());
  EXPECT_THAT(Index(), ElementsAre("good:1 READY", HasSubstr("m:1 UNAVAILABLE: cannot load")));
  Look();
  EXPECT_EQ(loads_, 1);
  Write("m", "{}");
  Look();
  Look();
  EXPECT_EQ(Found("m"), "1");
}

TEST_F(ModelManagerTest, AfterTheEndEveryRequestIsRefused) {
  Write("m");
  ASSERT_TRUE(Start("explicit", {.load_models = {"m"}}).ok());
  manager_->Stop();
  EXPECT_EQ(Load("m").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace dla::server
