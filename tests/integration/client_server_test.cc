// The real dla-client against the real server code, which runs in this process on a fake model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "server/address.h"
#include "server/server.h"
#include "tests/support/fake_model.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ClientServerTest : public ::testing::Test {
 protected:
  // Serves one model, "fake", of 4 classes with room for so many waiting photos.
  void Serve(int queue_capacity) {
    server::ServerConfig config;
    config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
    config.calibrate = false;  // a fake model has no speed
    config.defaults.queue_capacity = queue_capacity;
    config.defaults.replicas = 1;
    config.defaults.max_batch = 1;
    dir_.Write("model/config.json", "{}");
    config.models = {{.name = "fake", .folder = dir_.Path("model"), .settings = config.defaults}};
    auto server = server::Server::Start(
        config, {.load_model = [this](const auto&) -> absl::StatusOr<std::unique_ptr<const Model>> {
                   auto model = std::make_unique<FakeModel>(4);
                   model_ = model.get();
                   return model;
                 },
                 .decode = FakeDecode,
                 .prepare_decode_thread = nullptr});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  std::unique_ptr<Subprocess> Client(std::vector<std::string> args) {
    args.insert(args.begin(), ProgramPath("dla-client"));
    args.insert(args.end(), {"--server", server_->grpc_address()});
    return *Subprocess::Start({.command = args});
  }

  // So many photos, of class 0, 1, 2, 3, 0, ...
  std::string Photos(int count) {
    for (int i = 0; i < count; ++i) {
      dir_.Write(absl::StrCat("photos/", 100 + i, ".jpg"),
                 std::string(1, static_cast<char>(i % 4)));
    }
    return dir_.Path("photos");
  }

  // How many calls of Classify the server has refused because its queue was full.
  double Refusals() {
    const server::HostPort where = server::SplitAddress(server_->metrics_address());
    const auto response = httplib::Client(where.host, where.port).Get("/metrics");
    const std::string series =
        "dla_requests_total{code=\"RESOURCE_EXHAUSTED\",method=\"Classify\",model=\"fake\"} ";
    const size_t at = response ? response->body.find(series) : std::string::npos;
    if (at != std::string::npos) return std::stod(response->body.substr(at + series.size()));
    ADD_FAILURE() << "no metric " << series;
    return 1;
  }

  TempDir dir_;
  FakeModel* model_ = nullptr;
  std::unique_ptr<server::Server> server_;
};

TEST_F(ClientServerTest, ClassifiesAndEmbedsAndLists) {
  Serve(100);
  const std::string photos = Photos(40);
  auto classify = Client({"classify", photos, "--format", "csv", "--top-k", "1"});
  ASSERT_EQ(*classify->Wait(), 0) << classify->errors();
  std::string expected = "file,rank,index,label,id,probability\n";
  for (int i = 0; i < 40; ++i) {
    const int c = i % 4;
    absl::StrAppend(&expected, photos, "/", 100 + i, ".jpg,1,", c, ",class ", c, ",n", c,
                    ",0.9998638\n");
  }
  EXPECT_EQ(classify->output(), expected);

  auto embed = Client({"embed", photos, "--out", dir_.Path("x.npy")});
  EXPECT_EQ(*embed->Wait(), 0) << embed->errors();
  EXPECT_THAT(embed->errors(), HasSubstr("40 x 2 float32 by fake version 1"));

  auto models = Client({"models"});
  EXPECT_EQ(*models->Wait(), 0) << models->errors();
  EXPECT_THAT(models->output(),
              AllOf(StartsWith("NAME  VERSION"), HasSubstr("fake  1        fake")));

  auto model = Client({"model", "fake"});
  EXPECT_EQ(*model->Wait(), 0) << model->errors();
  EXPECT_THAT(model->output(), HasSubstr("  3  class 3\n"));

  auto health = Client({"health", "--model", "fake"});
  EXPECT_EQ(*health->Wait(), 0) << health->errors();
  EXPECT_EQ(health->output(), "SERVING\n");
}

// The server says RESOURCE_EXHAUSTED with google.rpc.RetryInfo, and the client comes back.
TEST_F(ClientServerTest, GetsEveryPhotoThroughAQueueThatIsTooShort) {
  Serve(1);
  model_->Hold();
  auto client = Client({"classify", Photos(30), "--format", "json", "--concurrency", "16"});
  while (Refusals() == 0) {
  }
  model_->Release();
  EXPECT_EQ(*client->Wait(), 0) << client->errors();
  EXPECT_THAT(client->errors(), StartsWith("30 photos in "));
}

TEST_F(ClientServerTest, PassesOnWhatTheServerSays) {
  Serve(100);
  const std::string bad = dir_.Write("bad.jpg", "bad");
  const std::string empty = dir_.Write("empty.jpg", "");
  auto client = Client({"classify", bad, empty, Photos(2)});
  EXPECT_EQ(*client->Wait(), 1);
  EXPECT_THAT(client->errors(), AllOf(StartsWith("2 of 4 photos failed:\n"),
                                      HasSubstr(absl::StrCat(bad, ": not a photo\n")),
                                      HasSubstr(absl::StrCat(empty, ": "))));

  auto unknown = Client({"classify", Photos(2), "--model", "resnet50"});
  EXPECT_EQ(*unknown->Wait(), 1);
  EXPECT_THAT(unknown->errors(), AllOf(HasSubstr("resnet50"), HasSubstr("fake")));

  auto top_k = Client({"classify", Photos(1), "--top-k", "4000000000"});
  EXPECT_EQ(*top_k->Wait(), 1);
  EXPECT_THAT(top_k->errors(), HasSubstr("4000000000"));
}

}  // namespace
}  // namespace dla::testing
