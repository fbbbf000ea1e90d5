// What browsers get of the page, and what stands between it and the server: on a fake model,
// through real HTTP.
#include "server/page_routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <regex>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "server/address.h"
#include "server/server.h"
#include "server/token_table.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class PageTest : public ::testing::Test {
 protected:
  void Start(ServerConfig config = {}) {
    folder_.Write("model/config.json", "{}");
    config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
    config.calibrate = false;
    config.models = {{.name = "fake", .folder = folder_.Path("model"), .settings = {}}};
    auto server = Server::Start(
        config,
        {.load_model = [](const ModelFolder&) -> absl::StatusOr<std::unique_ptr<const Model>> {
           return std::make_unique<FakeModel>(4);
         },
         .decode = FakeDecode,
         .prepare_decode_thread = nullptr,
         .clock = clock_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  httplib::Response Get(const std::string& path, const httplib::Headers& headers = {}) {
    const HostPort where = SplitAddress(server_->http_address());
    auto result = httplib::Client(where.host, where.port).Get(path, headers);
    if (!result) return {};
    return *result;
  }

  // What the page loads: the paths in its HTML, and the modules that these import.
  std::set<std::string> PathsOfThePage() {
    static const std::regex kReference(R"re((?:src|href)="(page/[^"]*)"|from '\./([^']*)')re");
    std::set<std::string> paths;
    std::vector<std::string> unread = {"/"};
    while (!unread.empty()) {
      const std::string path = unread.back();
      unread.pop_back();
      if (!paths.insert(path).second) continue;
      const std::string text = Get(path).body;
      for (std::sregex_iterator found(text.begin(), text.end(), kReference), end; found != end;
           ++found) {
        unread.push_back((*found)[1].matched ? absl::StrCat("/", (*found)[1].str())
                                             : absl::StrCat("/page/", (*found)[2].str()));
      }
    }
    return paths;
  }

  dla::testing::TempDir folder_;
  FakeClock clock_;
  std::unique_ptr<Server> server_;
};

TEST_F(PageTest, EveryFileOfThePageComesWithTheSameStrictPolicy) {
  Start();
  const std::set<std::string> paths = PathsOfThePage();
  EXPECT_EQ(paths.size(), 9);
  for (const std::string& path : paths) {
    SCOPED_TRACE(path);
    const httplib::Response file = Get(path);
    EXPECT_EQ(file.status, 200);
    EXPECT_FALSE(file.body.empty());
    const std::string policy = file.get_header_value("Content-Security-Policy");
    EXPECT_THAT(policy, AllOf(StartsWith("default-src 'none'; script-src 'self'; "),
                              HasSubstr("connect-src 'self'"), HasSubstr("form-action 'none'"),
                              HasSubstr("frame-ancestors 'none'"), HasSubstr("base-uri 'none'"),
                              Not(HasSubstr("unsafe")), Not(HasSubstr("*"))));
    EXPECT_EQ(file.get_header_value("X-Content-Type-Options"), "nosniff");
    EXPECT_EQ(file.get_header_value("Referrer-Policy"), "no-referrer");
    EXPECT_THAT(file.get_header_value("Permissions-Policy"), StartsWith("camera=(self)"));
    EXPECT_EQ(file.get_header_value("Cache-Control"), "no-cache");
    const bool script = path.ends_with(".js");
    EXPECT_EQ(file.get_header_value("Content-Type"),
              script                   ? "text/javascript; charset=utf-8"
              : path.ends_with(".css") ? "text/css; charset=utf-8"
              : path.ends_with(".svg") ? "image/svg+xml"
                                       : "text/html; charset=utf-8");
  }
}

TEST_F(PageTest, AFileThatTheBrowserHasIsNotSentAgain) {
  Start();
  const std::string tag = Get("/page/page.js").get_header_value("ETag");
  ASSERT_THAT(tag, AllOf(StartsWith("\""), Not(HasSubstr("W/"))));
  const httplib::Response again = Get("/page/page.js", {{"If-None-Match", tag}});
  EXPECT_EQ(again.status, 304);
  EXPECT_EQ(again.body, "");
  EXPECT_EQ(again.get_header_value("ETag"), tag);
  EXPECT_EQ(Get("/page/page.js", {{"If-None-Match", absl::StrCat("\"x\", W/", tag)}}).status, 304);
  EXPECT_EQ(Get("/page/page.css", {{"If-None-Match", tag}}).status, 200);
}

TEST_F(PageTest, SwitchedOffThereIsNeitherPageNorMetricsOnThisPort) {
  const auto line = ParseCommandLine({"--page", "false"});
  ASSERT_TRUE(line.ok()) << line.status();
  Start(line->config);
  for (const char* path : {"/", "/page/page.js", "/page/page.css", "/metrics"}) {
    const httplib::Response refused = Get(path);
    EXPECT_EQ(refused.status, 404) << path;
    EXPECT_EQ(refused.get_header_value("Content-Type"), "application/problem+json") << path;
    EXPECT_THAT(refused.body, HasSubstr(absl::StrCat("there is nothing at GET ", path)));
  }
  EXPECT_EQ(Get("/v1/models").status, 200);
}

TEST_F(PageTest, MetricsForThePageAreThoseOfTheirOwnPort) {
  Start();
  const httplib::Response metrics = Get("/metrics");
  EXPECT_EQ(metrics.status, 200);
  EXPECT_THAT(metrics.get_header_value("Content-Type"), StartsWith("text/plain; version=0.0.4"));
  EXPECT_THAT(metrics.body, AllOf(HasSubstr("dla_queue_capacity{model=\"fake\"} 512"),
                                  HasSubstr("process_resident_memory_bytes")));
}

TEST_F(PageTest, MetricsGoThroughTheGate) {
  ServerConfig config;
  config.token_file =
      folder_.Write("tokens", absl::StrCat("alice infer ", HashToken("secret"), "\n"));
  Start(config);
  const httplib::Response refused = Get("/metrics");
  EXPECT_EQ(refused.status, 401);
  EXPECT_THAT(refused.body, Not(HasSubstr("dla_")));
  EXPECT_EQ(Get("/metrics", {{"Authorization", "Bearer wrong"}}).status, 401);
  EXPECT_EQ(Get("/metrics", {{"Authorization", "Bearer secret"}}).status, 200);
  // The page itself asks for the token.
  for (const char* path : {"/", "/page/page.js"}) EXPECT_EQ(Get(path).status, 200) << path;
}

TEST_F(PageTest, OtherOriginsReadNoMetrics) {
  Start();
  EXPECT_EQ(Get("/metrics", {{"Origin", "http://evil.example"}}).status, 403);
  const std::string own = absl::StrCat("http://", server_->http_address());
  EXPECT_EQ(Get("/metrics", {{"Origin", own}}).status, 200);
}

}  // namespace
}  // namespace dla::server
