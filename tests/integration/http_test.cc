// Photos over HTTP: the whole server in this process on a fake model, asked by the library's own
// client, by OpenSSL's and by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "httplib.h"
#include "nlohmann/json.hpp"
#include "server/address.h"
#include "server/server.h"
#include "server/token_table.h"
#include "tests/support/certificates.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"
#include "tests/support/tcp.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using dla::testing::CertificateAndKey;
using dla::testing::CertificateAuthority;
using dla::testing::TcpConnection;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kClassify[] = "/v1/models/fake:classify";
constexpr char kInfer[] = "/v2/models/fake/infer";
constexpr char kJpeg[] = "image/jpeg";

class HttpTest : public ::testing::Test {
 protected:
  ~HttpTest() override {
    if (fake_ != nullptr) fake_->Release();
  }

  void Start(ServerConfig config = {}) {
    folder_.Write("model/config.json", "{}");
    config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
    config.calibrate = false;  // a fake model has no speed
    config.models = {
        {.name = "fake", .folder = folder_.Path("model"), .settings = config.defaults}};
    auto server = Server::Start(
        config,
        {.load_model = [this](const ModelFolder&) -> absl::StatusOr<std::unique_ptr<const Model>> {
           auto model = std::make_unique<FakeModel>(4);
           fake_ = model.get();
           return model;
         },
         .decode = FakeDecode,
         .clock = clock_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  httplib::Client Client() const {
    const HostPort where = SplitAddress(server_->http_address());
    return httplib::Client(where.host, where.port);
  }

  httplib::Result Post(const std::string& path, const std::string& body, const std::string& type) {
    return Client().Post(path.c_str(), body, type.c_str());
  }
  httplib::Result Classify(const std::string& query = "", const std::string& photo = Photo(2)) {
    return Post(kClassify + query, photo, kJpeg);
  }

  static std::string Photo(char mark) { return std::string(1, mark); }

  // "429 RESOURCE_EXHAUSTED: why", from the problem.
  static std::string Problem(const httplib::Result& result) {
    if (!result) return absl::StrCat("no response: ", httplib::to_string(result.error()));
    const json problem = json::parse(result->body, nullptr, false);
    if (result->get_header_value("Content-Type") != "application/problem+json" ||
        !problem.is_object() || problem.value("status", 0) != result->status) {
      return absl::StrCat("no problem: ", result->status, " ", result->body);
    }
    return absl::StrCat(result->status, " ", std::string(problem.at("code")), ": ",
                        std::string(problem.at("detail")));
  }

  // The value of one series as /metrics shows it.
  double Metric(const std::string& series) {
    const HostPort where = SplitAddress(server_->metrics_address());
    const auto response = httplib::Client(where.host, where.port).Get("/metrics");
    const std::string text = response ? response->body : "";
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  }
  void AwaitMetric(const std::string& series, double value) {
    while (Metric(series) != value) std::this_thread::yield();
  }

  dla::testing::TempDir folder_;
  FakeClock clock_;
  FakeModel* fake_ = nullptr;
  std::unique_ptr<Server> server_;
};

std::string Requests(const std::string& method, const std::string& code) {
  return absl::StrCat("dla_requests_total{code=\"", code, "\",method=\"", method,
                      "\",model=\"fake\"}");
}

TEST_F(HttpTest, APhotoAsTheBodyIsAnsweredByItsClasses) {
  Start();
  const auto result = Classify("?top_k=2&embedding=true");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200);
  EXPECT_EQ(result->get_header_value("Content-Type"), "application/json");
  const json answer = json::parse(result->body);
  EXPECT_EQ(answer.at("model"), "fake");
  EXPECT_EQ(answer.at("model_version"), "1");
  ASSERT_EQ(answer.at("classes").size(), 2u);
  EXPECT_EQ(answer.at("classes")[0].at("index"), 2);
  EXPECT_EQ(answer.at("classes")[0].at("label"), "class 2");
  EXPECT_EQ(answer.at("classes")[0].at("id"), "n2");
  EXPECT_GT(answer.at("classes")[0].at("probability"), 0.9);
  EXPECT_EQ(answer.at("embedding"), json({2.0, 1.0}));
  EXPECT_EQ(answer.at("timing").at("batch_size"), 1);
  EXPECT_EQ(Metric(Requests("HttpClassify", "OK")), 1);
}

TEST_F(HttpTest, NoModelsNameMeansTheFirst) {
  Start();
  const auto result = Post("/v1/models/:classify", Photo(1), "application/octet-stream");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200) << result->body;
}

TEST_F(HttpTest, OfAFormEachPhotoSucceedsOrFailsForItself) {
  Start();
  const auto result = Client().Post(
      kClassify, httplib::MultipartFormDataItems{{"a", Photo(1), "one.jpg", kJpeg},
                                                 {"b", "bad", "two.jpg", kJpeg},
                                                 {"c", Photo(3), "three.jpg", kJpeg}});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200);
  const json results = json::parse(result->body).at("results");
  ASSERT_EQ(results.size(), 3u) << result->body;
  EXPECT_EQ(results[0].at("name"), "one.jpg");
  EXPECT_EQ(results[0].at("classes")[0].at("index"), 1);
  EXPECT_EQ(results[1].at("error").at("code"), "INVALID_ARGUMENT");
  EXPECT_EQ(results[1].at("error").at("status"), 400);
  EXPECT_EQ(results[2].at("classes")[0].at("index"), 3);
}

TEST_F(HttpTest, ModelsAreListedAndDescribed) {
  Start();
  const auto list = Client().Get("/v1/models");
  ASSERT_TRUE(list);
  EXPECT_EQ(json::parse(list->body).at("models")[0].at("name"), "fake");
  const auto model = Client().Get("/v1/models/fake");
  ASSERT_TRUE(model);
  EXPECT_EQ(json::parse(model->body).at("labels").size(), 4u);
  EXPECT_THAT(Problem(Client().Get("/v1/models/none")), StartsWith("404 NOT_FOUND: "));
}

TEST_F(HttpTest, WhatIsWrongWithARequestIsAProblemThatNamesIt) {
  Start();
  EXPECT_THAT(Problem(Post("/v1/models/none:classify", Photo(1), kJpeg)),
              AllOf(StartsWith("404 NOT_FOUND: "), HasSubstr("none"), HasSubstr("fake")));
  EXPECT_THAT(Problem(Classify("", "bad")), StartsWith("400 INVALID_ARGUMENT: "));
  EXPECT_THAT(Problem(Classify("?top_k=9")), AllOf(StartsWith("400 "), HasSubstr("top_k is 9")));
  EXPECT_THAT(Problem(Classify("?top_k=-1")), HasSubstr("top_k is \"-1\""));
  EXPECT_THAT(Problem(Classify("?embedding=maybe")), HasSubstr("embedding is \"maybe\""));
  EXPECT_THAT(Problem(Classify("?priority=high")), HasSubstr("interactive or bulk"));
  EXPECT_THAT(Problem(Classify("?topk=1")), HasSubstr("no parameter \"topk\""));
  EXPECT_THAT(Problem(Post(kClassify, Photo(1), "text/plain")),
              AllOf(StartsWith("415 "), HasSubstr("text/plain"), HasSubstr("image/jpeg")));
  EXPECT_THAT(Problem(Client().Post(kClassify, {{"Content-Encoding", "gzip"}}, Photo(1), kJpeg)),
              AllOf(StartsWith("415 "), HasSubstr("gzip")));
  EXPECT_THAT(Problem(Client().Post(kClassify, httplib::MultipartFormDataItems{})),
              StartsWith("400 "));
  EXPECT_THAT(
      Problem(Client().Post(kClassify, httplib::MultipartFormDataItems{{"top_k", "3", "", ""}})),
      HasSubstr("go into the query"));
  EXPECT_THAT(Problem(Client().Get(kClassify)), StartsWith("405 "));
  EXPECT_THAT(Problem(Client().Get("/nothing")), StartsWith("404 "));
  EXPECT_THAT(Problem(Post("/nothing", std::string(100'000, 'x'), kJpeg)), StartsWith("404 "));
  EXPECT_EQ(Metric(Requests("HttpClassify", "OK")), 0);
}

TEST_F(HttpTest, AConnectionServesOneRequestAfterAnother) {
  Start();
  TcpConnection connection(server_->http_address());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(connection.Send(absl::StrCat("POST ", kClassify,
                                             " HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
                                             "Content-Length: 1\r\n\r\n",
                                             Photo(1))));
    std::string answer;
    while (answer.find("batch_size") == std::string::npos) {
      const std::string some = connection.ReadSome();
      ASSERT_FALSE(some.empty()) << answer;
      answer += some;
    }
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK"));
  }
}

TEST_F(HttpTest, ABodyThatIsTooLongIsRefusedByWhatItDeclares) {
  Start();
  TcpConnection connection(server_->http_address());
  ASSERT_TRUE(connection.Send(absl::StrCat("POST ", kClassify,
                                           " HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n",
                                           "Content-Length: 5000000000\r\n\r\nbeginning")));
  const std::string answer = connection.ReadAll();
  EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 413 "), HasSubstr("5000000000"),
                            HasSubstr("--max-message-bytes"), HasSubstr("Connection: close")));
}

TEST_F(HttpTest, OneRequestIsNeverTakenForTwo) {
  Start();
  const std::string second = absl::StrCat("GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto first = [&](const std::string& headers, const std::string& path = kClassify) {
    TcpConnection connection(server_->http_address());
    EXPECT_TRUE(connection.Send(absl::StrCat("POST ", path,
                                             " HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n",
                                             headers, "\r\n\r\n", second)));
    return connection.ReadAll();
  };
  const std::string length = absl::StrCat("Content-Length: ", second.size());
  for (const std::string& answer :
       {first("Transfer-Encoding: chunked\r\n" + length), first(length + "\r\nContent-Length: 1"),
        first("Content-Length: +1"), first(length, "/nothing"),
        first(length, "/v1/models/none:classify")}) {
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 4"));
    EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << answer;
  }
  TcpConnection get(server_->http_address());
  ASSERT_TRUE(get.Send("GET /v1/models HTTP/1.1\r\nHost: x\r\n" + length + "\r\n\r\n" + second));
  const std::string answer = get.ReadAll();
  EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << answer;
}

TEST_F(HttpTest, ABodyThatEndsTooEarlyIsNoPhoto) {
  Start();
  TcpConnection connection(server_->http_address());
  ASSERT_TRUE(connection.Send(absl::StrCat("POST ", kClassify,
                                           " HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n",
                                           "Content-Length: 100\r\n\r\nbeginning")));
  shutdown(connection.socket(), SHUT_WR);
  EXPECT_THAT(connection.ReadAll(), StartsWith("HTTP/1.1 408 "));
  EXPECT_EQ(Metric("dla_budget_used{model=\"\",resource=\"bytes\"}"), 0);
}

TEST_F(HttpTest, ASlowUploadGivesWayToThoseWhoWait) {
  ServerConfig config;
  config.http_threads = 1;
  Start(config);
  TcpConnection slow(server_->http_address());
  ASSERT_TRUE(slow.Send(absl::StrCat("POST ", kClassify,
                                     " HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n",
                                     "Content-Length: 100\r\n\r\nbeginning")));
  AwaitMetric("dla_http_connections", 1);
  const auto result = Classify();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200);
  EXPECT_THAT(slow.ReadAll(), StartsWith("HTTP/1.1 408 "));
}

TEST_F(HttpTest, OfTooManyConnectionsTheOldestThatWaitsIsToldToComeBack) {
  ServerConfig config;
  config.http_threads = 1;
  Start(config);
  fake_->Hold();
  std::thread first([&] { Classify(); });
  fake_->AwaitRuns(1);
  std::vector<std::unique_ptr<TcpConnection>> waiting;
  for (int i = 0; i < 257; ++i) {
    waiting.push_back(std::make_unique<TcpConnection>(server_->http_address()));
  }
  EXPECT_THAT(waiting[0]->ReadAll(), AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("Retry-After: 1"),
                                           HasSubstr("UNAVAILABLE")));
  EXPECT_EQ(Metric("dla_http_connections_refused_total"), 1);
  fake_->Release();
  first.join();
}

TEST_F(HttpTest, OverBudgetIsRefusedAtOnceWithATimeToComeBack) {
  ServerConfig config;
  config.max_requests_in_flight = 1;
  config.defaults.replicas = 1;
  Start(config);
  fake_->Hold();
  std::promise<httplib::Result> promise;
  std::thread first([&] { promise.set_value(Classify()); });
  fake_->AwaitRuns(1);
  const auto refused = Classify();
  EXPECT_THAT(Problem(refused),
              AllOf(StartsWith("429 RESOURCE_EXHAUSTED: "), HasSubstr("--max-requests-in-flight")));
  EXPECT_GE(std::stoi(refused->get_header_value("Retry-After")), 1);
  EXPECT_GE(json::parse(refused->body).at("retry_after_ms"), 1);
  fake_->Release();
  EXPECT_EQ(promise.get_future().get()->status, 200);
  first.join();
  EXPECT_EQ(Metric(Requests("HttpClassify", "RESOURCE_EXHAUSTED")), 1);
}

TEST_F(HttpTest, ATimeoutThatPassesIsAnsweredSo) {
  ServerConfig config;
  config.defaults.replicas = 1;
  Start(config);
  fake_->Hold();
  std::thread first([&] { Classify(); });
  fake_->AwaitRuns(1);
  std::promise<httplib::Result> promise;
  std::thread second([&] { promise.set_value(Classify("?timeout_ms=100")); });
  AwaitMetric("dla_queue_depth{model=\"fake\"}", 1);
  clock_.Advance(std::chrono::milliseconds(200));
  fake_->Release();
  EXPECT_THAT(Problem(promise.get_future().get()), StartsWith("504 DEADLINE_EXCEEDED: "));
  first.join();
  second.join();
}

TEST_F(HttpTest, ACallerWhoHangsUpCostsNoForwardPass) {
  ServerConfig config;
  config.defaults.replicas = 1;
  config.defaults.max_batch = 1;
  Start(config);
  fake_->Hold();
  std::thread first([&] { Classify(); });
  fake_->AwaitRuns(1);
  {
    TcpConnection connection(server_->http_address());
    ASSERT_TRUE(connection.Send(absl::StrCat("POST ", kClassify,
                                             " HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n",
                                             "Content-Length: 1\r\n\r\n", Photo(1))));
    AwaitMetric("dla_queue_depth{model=\"fake\"}", 1);
  }
  // Until the server has noticed, the photo waits; the running pass is held for as long.
  AwaitMetric("dla_http_connections", 1);
  fake_->Release();
  first.join();
  AwaitMetric(Requests("HttpClassify", "CANCELLED"), 1);
  EXPECT_EQ(fake_->batches().size(), 1u);
}

TEST_F(HttpTest, AShutdownAnswersWhatWasAccepted) {
  Start();
  fake_->Hold();
  std::promise<httplib::Result> promise;
  std::thread first([&] { promise.set_value(Classify()); });
  fake_->AwaitRuns(1);
  std::thread drain([&] { EXPECT_TRUE(server_->Drain(std::chrono::seconds(30)).ok()); });
  while (Client().Get("/healthz")->status != 503) std::this_thread::yield();
  EXPECT_THAT(Problem(Classify()), StartsWith("503 UNAVAILABLE: "));
  fake_->Release();
  EXPECT_EQ(promise.get_future().get()->status, 200);
  drain.join();
  first.join();
}

TEST_F(HttpTest, TokensAreAskedForAsInGrpc) {
  ServerConfig config;
  config.token_file = folder_.Write(
      "tokens", absl::StrCat("alice infer ", HashToken("a"), "\nops admin ", HashToken("o"), "\n"));
  Start(config);
  const auto post = [this](const std::string& path, const std::string& token) {
    httplib::Headers headers;
    if (!token.empty()) headers.emplace("Authorization", "Bearer " + token);
    return Client().Post(path.c_str(), headers, Photo(1), kJpeg);
  };
  const auto refused = post(kClassify, "");
  EXPECT_THAT(Problem(refused), StartsWith("401 UNAUTHENTICATED: "));
  EXPECT_EQ(refused->get_header_value("WWW-Authenticate"), "Bearer");
  EXPECT_THAT(Problem(post(kClassify, "wrong")), StartsWith("401 "));
  EXPECT_EQ(post(kClassify, "a")->status, 200);
  EXPECT_THAT(Problem(post("/v2/repository/models/fake/unload", "a")),
              StartsWith("403 PERMISSION_DENIED: "));
  for (const char* path : {"/v1/models", "/v1/models/fake", "/v2", "/v2/models/fake",
                           "/v2/models/stats", "/v2/models/fake/config", "/v2/models/fake/ready"}) {
    EXPECT_THAT(Problem(Client().Get(path)), StartsWith("401 ")) << path;
  }
  for (const char* path : {kInfer, "/v2/repository/index", "/v2/repository/models/fake/load"}) {
    EXPECT_THAT(Problem(post(path, "")), StartsWith("401 ")) << path;
  }
  EXPECT_EQ(Client().Get("/healthz")->status, 200);
}

TEST_F(HttpTest, PagesOfOtherOriginsGetNothing) {
  Start();
  const auto from = [this](const std::string& origin) {
    return Client().Post(kClassify, {{"Origin", origin}, {"Host", "photos.example"}}, Photo(1),
                         kJpeg);
  };
  EXPECT_EQ(from("https://photos.example")->status, 200);
  EXPECT_THAT(Problem(from("https://evil.example")), StartsWith("403 PERMISSION_DENIED: "));
  EXPECT_THAT(Problem(from("null")), StartsWith("403 "));
}

TEST_F(HttpTest, TlsIsThatOfGrpcAndCertificatesNameCallers) {
  const CertificateAuthority authority("authority");
  const CertificateAndKey pair = authority.Issue("server");
  const CertificateAndKey caller = authority.Issue("caller");
  ServerConfig config;
  config.tls_certificate = folder_.Write("cert.pem", pair.certificate);
  config.tls_key = folder_.Write("key.pem", pair.key);
  config.tls_client_ca = folder_.Write("ca.pem", authority.certificate());
  Start(config);
  const HostPort where = SplitAddress(server_->http_address());
  httplib::SSLClient known(where.host, where.port, folder_.Write("c.pem", caller.certificate),
                           folder_.Write("k.pem", caller.key));
  known.set_ca_cert_path(folder_.Path("ca.pem").c_str());
  known.enable_server_certificate_verification(true);
  auto result = known.Post(kClassify, Photo(2), kJpeg);
  ASSERT_TRUE(result) << httplib::to_string(result.error());
  EXPECT_EQ(result->status, 200) << result->body;

  httplib::SSLClient unknown(where.host, where.port);
  unknown.enable_server_certificate_verification(false);
  EXPECT_FALSE(unknown.Post(kClassify, Photo(2), kJpeg));
  EXPECT_FALSE(Client().Post(kClassify, Photo(2), kJpeg)) << "in plaintext";
}

TEST_F(HttpTest, TheOpenInferenceProtocolTakesBase64AndNumbers) {
  Start();
  const json request = {
      {"id", "7"},
      {"inputs",
       {{{"name", "image"},
         {"datatype", "BYTES"},
         {"shape", {2}},
         {"data", {absl::Base64Escape(Photo(1)), absl::Base64Escape(Photo(3))}}}}},
      {"outputs", {{{"name", "labels"}}, {{"name", "embedding"}}, {{"name", "indices"}}}},
      {"parameters", {{"top_k", 1}}}};
  const auto result = Post(kInfer, request.dump(), "application/json");
  ASSERT_TRUE(result);
  ASSERT_EQ(result->status, 200) << result->body;
  const json answer = json::parse(result->body);
  EXPECT_EQ(answer.at("id"), "7");
  EXPECT_EQ(answer.at("model_name"), "fake");
  EXPECT_EQ(answer.at("outputs")[0].at("data"), json({"class 1", "class 3"}));
  EXPECT_EQ(answer.at("outputs")[1].at("data"), json({1.0, 1.0, 3.0, 1.0}));
  EXPECT_EQ(answer.at("outputs")[1].at("shape"), json({2, 2}));
  EXPECT_EQ(answer.at("outputs")[2].at("data"), json({1, 3}));
  EXPECT_EQ(Metric(Requests("HttpInfer", "OK")), 1);
}

TEST_F(HttpTest, AModelIsUnloadedAndLoadedByItsPath) {
  ServerConfig config;
  config.model_control = "explicit";
  Start(config);
  ASSERT_EQ(Post("/v2/repository/models/fake/unload", "{}", "application/json")->status, 200);
  EXPECT_THAT(Problem(Client().Get("/v2/models/fake/ready")), StartsWith("503 "));
  EXPECT_THAT(Problem(Classify()), StartsWith("404 "));
  ASSERT_EQ(Post("/v2/repository/models/fake/load", "", "application/json")->status, 200);
  EXPECT_EQ(Client().Get("/v2/models/fake/ready")->status, 200);
  EXPECT_EQ(Classify()->status, 200);
}

}  // namespace
}  // namespace dla::server
