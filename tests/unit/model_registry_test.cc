#include "server/model_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/reaper.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ModelRegistryTest : public ::testing::Test {
 protected:
  std::shared_ptr<ServedModel> Model(const std::string& name, const std::string& version) {
    return reaper_.Share(std::make_unique<ServedModel>(name, version, std::make_unique<FakeModel>(),
                                                       ServedModel::Options{}, metrics_, clock_));
  }

  // NAME:VERSION of what is found, or the error.
  std::string Find(absl::string_view name, absl::string_view version = "") {
    const auto model = registry_.Find(name, version);
    return model.ok() ? (*model)->name() + ":" + (*model)->version()
                      : std::string(model.status().message());
  }

  FakeClock clock_;
  Metrics metrics_;
  Reaper reaper_;
  ModelRegistry registry_;
};

TEST_F(ModelRegistryTest, TheFirstModelAnswersForAnEmptyName) {
  registry_.Set("b", {Model("b", "1")});
  registry_.Set("a", {Model("a", "1")});
  EXPECT_EQ(Find(""), "b:1");
  registry_.Set("b", {Model("b", "2")});
  EXPECT_EQ(Find(""), "b:2");
  EXPECT_TRUE(registry_.Remove("b"));
  EXPECT_FALSE(registry_.Remove("b"));
  EXPECT_EQ(Find(""), "a:1");
}

TEST_F(ModelRegistryTest, TheHighestVersionIsTheDefaultUnlessOneIsStable) {
  registry_.Set("m", {Model("m", "10"), Model("m", "9")});
  EXPECT_EQ(Find("m"), "m:10");
  EXPECT_EQ(Find("m", "9"), "m:9");
  registry_.Set("m", {Model("m", "10"), Model("m", "9")}, {{"stable", "9"}, {"canary", "10"}});
  EXPECT_EQ(Find("m"), "m:9");
  EXPECT_EQ(Find("m", "stable"), "m:9");
  EXPECT_EQ(Find("m", "canary"), "m:10");
  EXPECT_EQ(registry_.models()[0]->version(), "9");
}

TEST_F(ModelRegistryTest, NamesWhatThereIsWhenNothingIsFound) {
  registry_.Set("m", {Model("m", "9"), Model("m", "10")}, {{"canary", "10"}});
  registry_.Set("n", {Model("n", "1")});
  EXPECT_THAT(Find("x\n"), AllOf(HasSubstr("\"x\\n\""), HasSubstr("served are: m, n")));
  EXPECT_THAT(Find("m", "7"), AllOf(HasSubstr("model \"m\" has no version \"7\""),
                                    HasSubstr("9, 10, canary (10)")));
}

}  // namespace
}  // namespace dla::server
