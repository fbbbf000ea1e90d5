// The whole server in this process, on a fake model, through real gRPC and HTTP on loopback.
#include "server/server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <thread>

#include "dla/v1/classifier.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "httplib.h"
#include "server/address.h"
#include "server/classifier_service.h"
#include "server/classify_stream.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ServerTest : public ::testing::Test {
 protected:
  // Serves fake models "first" (4 classes) and "second" (300 classes) unless config names others.
  void Start(ServerConfig config = {}) {
    config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
    config.calibrate = false;  // a fake model has no speed
    if (config.models.empty()) {
      config.models = {{.name = "first", .folder = Folder(), .settings = config.defaults},
                       {.name = "second", .folder = Folder(), .settings = config.defaults}};
    }
    auto server = Server::Start(
        config,
        {.load_model =
             [this](const ModelFolder& folder) -> absl::StatusOr<std::unique_ptr<const Model>> {
           auto model = std::make_unique<FakeModel>(folder.name == "second" ? 300 : 4);
           fakes_[folder.name] = model.get();
           return model;
         },
         .decode = FakeDecode,
         .prepare_decode_thread = nullptr,
         .clock = clock_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Classifier::NewStub(channel_);
  }

  // A folder that passes for a model's.
  std::string Folder() {
    folder_.Write("config.json", "{}");
    return folder_.Path();
  }

  grpc::Status Classify(const v1::ClassifyRequest& request, v1::ClassifyResponse* response) {
    grpc::ClientContext context;
    return stub_->Classify(&context, request, response);
  }

  static v1::ClassifyRequest Photo(char mark, const std::string& model = "") {
    v1::ClassifyRequest request;
    request.set_model(model);
    request.set_image(std::string(1, mark));
    return request;
  }

  std::string Get(const std::string& address, const std::string& path) {
    const HostPort where = SplitAddress(address);
    auto response = httplib::Client(where.host, where.port).Get(path.c_str());
    return response ? std::to_string(response->status) + " " + response->body : "no response";
  }

  // The value of one series as /metrics shows it.
  double Metric(const std::string& series) {
    const std::string text = Get(server_->metrics_address(), "/metrics");
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  }

  grpc::health::v1::HealthCheckResponse::ServingStatus Health(const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    grpc::health::v1::HealthCheckResponse response;
    request.set_service(service);
    auto stub = grpc::health::v1::Health::NewStub(channel_);
    const grpc::Status status = stub->Check(&context, request, &response);
    return status.ok() ? response.status() : grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN;
  }

  dla::testing::TempDir folder_;
  FakeClock clock_;
  std::map<std::string, FakeModel*> fakes_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Classifier::Stub> stub_;
};

TEST_F(ServerTest, ClassifiesWithTheModelThatTheRequestNames) {
  Start();
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(Photo(7, "second"), &response).ok());
  EXPECT_EQ(response.model(), "second");
  EXPECT_EQ(response.model_version(), "1");
  ASSERT_EQ(response.classes_size(), 5);
  EXPECT_EQ(response.classes(0).index(), 7u);
  EXPECT_EQ(response.classes(0).label(), "class 7");
  EXPECT_EQ(response.classes(0).id(), "n7");
  EXPECT_GT(response.classes(0).probability(), 0.9f);
  EXPECT_EQ(response.timing().batch_size(), 1u);
  EXPECT_EQ(response.embedding_size(), 0);
}

TEST_F(ServerTest, AnEmptyModelNameMeansTheFirstOne) {
  Start();
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(Photo(3), &response).ok());
  EXPECT_EQ(response.model(), "first");
  EXPECT_EQ(response.classes_size(), 4);  // the default of 5 is more than the model has
}

TEST_F(ServerTest, ReturnsTheEmbeddingWhenAskedFor) {
  Start();
  v1::ClassifyRequest request = Photo(3);
  request.set_include_embedding(true);
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(request, &response).ok());
  EXPECT_THAT(response.embedding(), ElementsAre(3, 1));
}

TEST_F(ServerTest, RefusesATopKBeyondTheClassesAndSaysHowManyThereAre) {
  Start();
  v1::ClassifyRequest request = Photo(1);
  request.set_top_k(4'000'000'000u);
  v1::ClassifyResponse response;
  const grpc::Status status = Classify(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("4000000000"));
  EXPECT_THAT(status.error_message(), HasSubstr("4 classes"));
}

TEST_F(ServerTest, NamesTheServedModelsWhenTheAskedOneIsUnknown) {
  Start();
  v1::ClassifyResponse response;
  const grpc::Status status = Classify(Photo(1, "third"), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("\"third\""));
  EXPECT_THAT(status.error_message(), HasSubstr("first, second"));
}

TEST_F(ServerTest, ABadPhotoInABatchFailsAlone) {
  Start();
  v1::ClassifyBatchRequest request;
  for (const char* image : {"\x01", "bad", "\x02", ""}) request.add_images(image);
  v1::ClassifyBatchResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->ClassifyBatch(&context, request, &response).ok());
  ASSERT_EQ(response.results_size(), 4);
  EXPECT_EQ(response.results(0).response().classes(0).index(), 1u);
  EXPECT_EQ(response.results(1).error().code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(response.results(1).error().message(), "not a photo");
  EXPECT_EQ(response.results(2).response().classes(0).index(), 2u);
  EXPECT_EQ(response.results(3).error().code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, RefusesABatchWithoutImagesOrWithTooMany) {
  Start();
  for (int images : {0, ClassifierService::kMaxBatchImages + 1}) {
    v1::ClassifyBatchRequest request;
    for (int i = 0; i < images; ++i) request.add_images("\x01");
    v1::ClassifyBatchResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->ClassifyBatch(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr(std::to_string(images) + " entries"));
  }
}

TEST_F(ServerTest, AnswersEveryMessageOfAStreamUnderItsId) {
  Start();
  grpc::ClientContext context;
  auto stream = stub_->ClassifyStream(&context);
  constexpr int kMessages = 3 * ClassifyStreamReactor::kMaxInFlight;
  std::thread writer([&stream] {
    for (int i = 0; i < kMessages; ++i) {
      v1::ClassifyStreamRequest message;
      message.set_id(1000 + i);
      *message.mutable_request() = Photo(static_cast<char>(i % 4));
      if (i % 10 == 3) message.mutable_request()->set_image("bad");
      if (i % 10 == 5) message.mutable_request()->set_model("third");
      ASSERT_TRUE(stream->Write(message));
    }
    stream->WritesDone();
  });
  std::map<uint64_t, v1::ClassifyResult> results;
  v1::ClassifyStreamResponse message;
  while (stream->Read(&message)) results[message.id()] = message.result();
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  ASSERT_EQ(results.size(), static_cast<size_t>(kMessages));
  for (int i = 0; i < kMessages; ++i) {
    const v1::ClassifyResult& result = results[1000 + i];
    if (i % 10 == 3) {
      EXPECT_EQ(result.error().code(), grpc::StatusCode::INVALID_ARGUMENT);
    } else if (i % 10 == 5) {
      EXPECT_EQ(result.error().code(), grpc::StatusCode::NOT_FOUND);
    } else {
      EXPECT_EQ(result.response().classes(0).index(), static_cast<uint32_t>(i % 4));
    }
  }
}

TEST_F(ServerTest, ReadsNoMoreOfAStreamThanItHoldsInFlight) {
  Start();
  fakes_["first"]->Hold();
  grpc::ClientContext context;
  auto stream = stub_->ClassifyStream(&context);
  v1::ClassifyStreamRequest message;
  *message.mutable_request() = Photo(1);
  for (int i = 0; i < 2 * ClassifyStreamReactor::kMaxInFlight; ++i) stream->Write(message);
  stream->WritesDone();
  fakes_["first"]->AwaitRuns(1);
  double in_flight = 0;
  while (in_flight < ClassifyStreamReactor::kMaxInFlight) {
    in_flight = Metric("dla_in_flight{model=\"first\"}");
  }
  EXPECT_EQ(in_flight, ClassifyStreamReactor::kMaxInFlight);
  fakes_["first"]->Release();
  int answers = 0;
  v1::ClassifyStreamResponse response;
  while (stream->Read(&response)) ++answers;
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(answers, 2 * ClassifyStreamReactor::kMaxInFlight);
}

TEST_F(ServerTest, ACancelledStreamFreesWhatItHad) {
  Start();
  fakes_["first"]->Hold();
  grpc::ClientContext context;
  auto stream = stub_->ClassifyStream(&context);
  v1::ClassifyStreamRequest message;
  *message.mutable_request() = Photo(1);
  for (int i = 0; i < 10; ++i) stream->Write(message);
  fakes_["first"]->AwaitRuns(1);
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  fakes_["first"]->Release();
  v1::ClassifyResponse response;
  EXPECT_TRUE(Classify(Photo(2), &response).ok());
  server_.reset();  // waits for the stream, which must have let go
}

TEST_F(ServerTest, TellsWhenToComeBackWhenTheQueueIsFull) {
  ServerConfig config;
  config.defaults.queue_capacity = 1;
  config.defaults.max_batch = 1;
  config.defaults.replicas = 1;
  Start(config);
  fakes_["first"]->Hold();
  grpc::ClientContext contexts[2];
  v1::ClassifyResponse responses[2];
  grpc::Status statuses[2];
  std::thread running(
      [&] { statuses[0] = stub_->Classify(&contexts[0], Photo(1), &responses[0]); });
  fakes_["first"]->AwaitRuns(1);
  std::thread waiting(
      [&] { statuses[1] = stub_->Classify(&contexts[1], Photo(1), &responses[1]); });
  while (Metric("dla_queue_depth{model=\"first\"}") < 1) {
  }
  v1::ClassifyResponse response;
  const grpc::Status refused = Classify(Photo(1), &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(refused.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_GT(retry.retry_delay().nanos() + retry.retry_delay().seconds(), 0);
  fakes_["first"]->Release();
  running.join();
  waiting.join();
  EXPECT_TRUE(statuses[0].ok());
  EXPECT_TRUE(statuses[1].ok());
}

// One request of each kind beyond what the server may hold is refused at once, and a stream goes
// on.
TEST_F(ServerTest, RefusesMoreRequestsThanItMayHold) {
  ServerConfig config;
  config.max_requests_in_flight = 1;
  config.defaults.replicas = 1;
  Start(config);
  fakes_["first"]->Hold();
  grpc::ClientContext stream_context;
  auto stream = stub_->ClassifyStream(&stream_context);
  v1::ClassifyStreamRequest message;
  *message.mutable_request() = Photo(1);
  message.set_id(1);
  ASSERT_TRUE(stream->Write(message));
  fakes_["first"]->AwaitRuns(1);

  v1::ClassifyResponse response;
  const grpc::Status refused = Classify(Photo(1, "second"), &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("the server has no room for 1 more requests: of 1 "
                                                 "(--max-requests-in-flight) 0 are free"));
  EXPECT_EQ(Metric("dla_refused_total{model=\"second\",reason=\"requests\"}"), 1);
  EXPECT_EQ(Metric("dla_budget_used{model=\"\",resource=\"requests\"}"), 1);
  EXPECT_EQ(Metric("dla_budget_capacity{model=\"\",resource=\"requests\"}"), 1);

  message.set_id(2);
  ASSERT_TRUE(stream->Write(message));
  v1::ClassifyStreamResponse answer;
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.id(), 2u);
  EXPECT_EQ(answer.result().error().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  fakes_["first"]->Release();
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.id(), 1u);
  EXPECT_TRUE(answer.result().has_response());

  message.set_id(3);
  ASSERT_TRUE(stream->Write(message));
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_TRUE(answer.result().has_response());
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(Classify(Photo(1, "second"), &response).ok());
  EXPECT_EQ(Metric("dla_budget_used{model=\"\",resource=\"requests\"}"), 0);
  EXPECT_EQ(Metric("dla_budget_used{model=\"\",resource=\"bytes\"}"), 0);
}

TEST_F(ServerTest, RefusesMoreBytesThanAModelMayHoldWhileAnotherModelTakesThem) {
  ServerConfig config;
  config.models = {{.name = "small", .folder = Folder(), .settings = config.defaults},
                   {.name = "large", .folder = Folder(), .settings = config.defaults}};
  config.models[0].settings.max_bytes_in_flight = 1000;
  Start(config);
  v1::ClassifyRequest request = Photo(1, "small");
  *request.mutable_image() += std::string(1000, ' ');
  v1::ClassifyResponse response;
  const grpc::Status refused = Classify(request, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(),
              HasSubstr("model \"small\" has no room for 1011 more bytes of requests: of 1000 "
                        "(--model-max-bytes-in-flight)"));
  EXPECT_TRUE(Classify(Photo(1, "small"), &response).ok());
  request.set_model("large");
  EXPECT_TRUE(Classify(request, &response).ok());
}

TEST_F(ServerTest, AnswersInteractivePhotosBeforeBulkOnes) {
  ServerConfig config;
  config.defaults.max_batch = 1;
  config.defaults.replicas = 1;
  Start(config);
  fakes_["first"]->Hold();
  grpc::ClientContext stream_context;
  auto stream = stub_->ClassifyStream(&stream_context);
  v1::ClassifyStreamRequest message;
  for (int id = 0; id < 5; ++id) {
    message.set_id(id);
    *message.mutable_request() = Photo(1);
    if (id == 1 || id == 2) message.mutable_request()->set_priority(v1::PRIORITY_BULK);
    ASSERT_TRUE(stream->Write(message));
    if (id == 0) fakes_["first"]->AwaitRuns(1);
  }
  while (Metric("dla_decode_seconds_count{model=\"first\"}") < 5) {
  }
  fakes_["first"]->Release();
  std::vector<uint64_t> ids;
  v1::ClassifyStreamResponse answer;
  while (ids.size() < 5 && stream->Read(&answer)) ids.push_back(answer.id());
  ASSERT_EQ(ids.size(), 5u);
  // Which of two equal ones was decoded first is open.
  std::sort(ids.begin() + 1, ids.begin() + 3);
  std::sort(ids.begin() + 3, ids.end());
  EXPECT_THAT(ids, ::testing::ElementsAre(0, 3, 4, 1, 2));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, RefusesAPriorityThatDoesNotExist) {
  Start();
  v1::ClassifyRequest request = Photo(1);
  request.set_priority(static_cast<v1::Priority>(3));
  v1::ClassifyResponse response;
  const grpc::Status refused = Classify(request, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("priority is 3; there are 1, interactive, and 2"));
}

TEST_F(ServerTest, DescribesItsModels) {
  Start();
  grpc::ClientContext list_context;
  v1::ListModelsResponse list;
  ASSERT_TRUE(stub_->ListModels(&list_context, {}, &list).ok());
  ASSERT_EQ(list.models_size(), 2);
  EXPECT_EQ(list.models(0).name(), "first");
  EXPECT_EQ(list.models(1).num_classes(), 300u);
  EXPECT_EQ(list.models(1).labels_size(), 0);

  v1::GetModelRequest request;
  request.set_name("first");
  grpc::ClientContext get_context;
  v1::Model model;
  ASSERT_TRUE(stub_->GetModel(&get_context, request, &model).ok());
  EXPECT_EQ(model.architecture(), "fake");
  EXPECT_EQ(model.parameters(), 42u);
  EXPECT_EQ(model.embedding_size(), 2u);
  EXPECT_THAT(model.labels(), ElementsAre("class 0", "class 1", "class 2", "class 3"));
  request.set_name("third");
  grpc::ClientContext other_context;
  EXPECT_EQ(stub_->GetModel(&other_context, request, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, RefusesAMessageOverTheLimit) {
  ServerConfig config;
  config.max_message_bytes = 10'000;
  Start(config);
  v1::ClassifyRequest request;
  request.set_image(std::string(20'000, 'x'));
  v1::ClassifyResponse response;
  const grpc::Status status = Classify(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("10000"));
  EXPECT_TRUE(Classify(Photo(1), &response).ok());
}

TEST_F(ServerTest, CountsRequestsByModelMethodAndCode) {
  Start();
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(Photo(1), &response).ok());
  ASSERT_TRUE(Classify(Photo(2), &response).ok());
  EXPECT_FALSE(Classify(Photo(2, "third"), &response).ok());
  const std::string metrics = Get(server_->metrics_address(), "/metrics");
  EXPECT_THAT(metrics,
              HasSubstr("dla_requests_total{code=\"OK\",method=\"Classify\",model=\"first\"} 2"));
  EXPECT_THAT(metrics,
              HasSubstr("dla_requests_total{code=\"NOT_FOUND\",method=\"Classify\",model=\"\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("dla_batch_size_count{model=\"first\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("dla_decode_seconds_count{model=\"first\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("dla_inference_seconds_count{model=\"first\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("dla_request_seconds_count{model=\"first\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("dla_in_flight{model=\"first\"} 0"));
  EXPECT_THAT(metrics, HasSubstr("dla_build_info{"));
  EXPECT_THAT(metrics, HasSubstr("dla_top1_probability_count{model=\"first\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("dla_model_load_failed{model=\"first\",reason=\"self_test\"} 0"));
  for (const char* name : {"process_resident_memory_bytes ", "process_start_time_seconds 1",
                           "dla_memory_limit_bytes "}) {
    EXPECT_THAT(metrics, HasSubstr(std::string("\n") + name));
  }
}

TEST_F(ServerTest, AnswersEqualPhotosFromTheResponseCacheWhereThereIsOne) {
  ServerConfig config;
  config.cache_bytes = 1 << 20;
  config.models = {{.name = "first", .folder = Folder(), .settings = {}},
                   {.name = "second", .folder = Folder(), .settings = {.cache = false}}};
  Start(config);
  v1::ClassifyResponse response;
  for (const std::string model : {"first", "first", "second", "second"}) {
    ASSERT_TRUE(Classify(Photo(3, model), &response).ok());
    EXPECT_EQ(response.classes(0).index(), 3u);
  }
  EXPECT_THAT(fakes_["first"]->batches(), ElementsAre(1));
  EXPECT_THAT(fakes_["second"]->batches(), ElementsAre(1, 1));
  EXPECT_EQ(Metric("dla_cache_hits_total{model=\"first\"}"), 1);
  EXPECT_EQ(Metric("dla_cache_misses_total{model=\"first\"}"), 1);
  EXPECT_EQ(Metric("dla_cache_misses_total{model=\"second\"}"), 0);
  EXPECT_EQ(Metric("dla_cache_entries"), 1);
  EXPECT_EQ(Metric("dla_cache_capacity_bytes"), 1 << 20);
  EXPECT_EQ(Metric("dla_cache_evictions_total"), 0);
}

TEST_F(ServerTest, ReportsHealthPerModelAndOverHttp) {
  Start();
  using Response = grpc::health::v1::HealthCheckResponse;
  EXPECT_EQ(Health(""), Response::SERVING);
  EXPECT_EQ(Health("first"), Response::SERVING);
  EXPECT_EQ(Health("third"), Response::SERVICE_UNKNOWN);
  EXPECT_EQ(Get(server_->http_address(), "/healthz"), "200 ready\n");
  EXPECT_EQ(Get(server_->http_address(), "/v2/health/live"), "200 live\n");
  EXPECT_THAT(Get(server_->http_address(), "/nothing"), HasSubstr("404"));
}

TEST_F(ServerTest, AModelThatAPollFindsIsServedAndReportedHealthyUntilItsFolderIsGone) {
  folder_.Write("repository/a/config.json", "{}");
  ServerConfig config{.models = {{.name = "first", .folder = Folder()}},
                      .model_repository = folder_.Path("repository"),
                      .model_control = "poll"};
  config.defaults.batch_timeout_ms = 0;  // then nobody but the manager waits for the clock
  Start(config);
  const std::string b = folder_.Write("repository/b/config.json", "{}");
  const auto look = [&](const std::string& model, bool served) {
    for (;;) {
      v1::ClassifyResponse response;
      const grpc::Status status = Classify(Photo(1, model), &response);
      if (status.ok() == served) break;
      ASSERT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::NOT_FOUND);
      clock_.AwaitWaiters(1);
      clock_.Advance(std::chrono::seconds(15));
    }
    // The manager waits again once it has told the health service.
    clock_.AwaitWaiters(1);
  };
  look("b", true);
  EXPECT_EQ(Health("b"), grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(Metric("dla_queue_capacity{model=\"b\"}"), config.defaults.queue_capacity);
  std::filesystem::remove_all(folder_.Path("repository/b"));
  look("b", false);
  while (Health("b") != grpc::health::v1::HealthCheckResponse::NOT_SERVING) {
    std::this_thread::yield();
  }
  while (Metric("dla_replicas{model=\"b\"}") != 0) std::this_thread::yield();
}

TEST_F(ServerTest, DrainingAnswersWhatWasAcceptedAndRefusesTheRest) {
  Start();
  fakes_["first"]->Hold();
  grpc::Status accepted;
  v1::ClassifyResponse response;
  std::thread caller([&] { accepted = Classify(Photo(1), &response); });
  fakes_["first"]->AwaitRuns(1);

  grpc::ClientContext stream_context;
  auto stream = stub_->ClassifyStream(&stream_context);
  v1::ClassifyStreamRequest message;
  message.set_id(9);
  *message.mutable_request() = Photo(2, "second");
  ASSERT_TRUE(stream->Write(message));
  v1::ClassifyStreamResponse answer;
  ASSERT_TRUE(stream->Read(&answer));  // the stream is idle now, and open

  std::thread drain([this] { EXPECT_TRUE(server_->Drain(std::chrono::hours(1)).ok()); });
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::ClassifyResponse ignored;
  EXPECT_EQ(Classify(Photo(1, "second"), &ignored).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Get(server_->http_address(), "/healthz"), "503 not ready\n");
  fakes_["first"]->Release();
  caller.join();
  drain.join();
  EXPECT_TRUE(accepted.ok()) << accepted.error_message();
  EXPECT_EQ(response.classes(0).index(), 1u);
}

TEST_F(ServerTest, AnExpiredDeadlineReachesTheCallerAndCostsNoForwardPass) {
  ServerConfig config;
  config.defaults.replicas = 1;
  Start(config);
  fakes_["first"]->Hold();
  v1::ClassifyResponse response;
  std::thread running([this] {
    v1::ClassifyResponse ignored;
    EXPECT_TRUE(Classify(Photo(1), &ignored).ok());
  });
  fakes_["first"]->AwaitRuns(1);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  EXPECT_EQ(stub_->Classify(&context, Photo(1), &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  clock_.Advance(std::chrono::seconds(1));
  fakes_["first"]->Release();
  running.join();
  server_->Drain(std::chrono::hours(1)).IgnoreError();
  EXPECT_THAT(fakes_["first"]->batches(), ElementsAre(1));
}

TEST_F(ServerTest, DoesNotStartWithAModelThatFailsItsSelfTest) {
  ServerConfig config;
  config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
  config.calibrate = false;
  config.models = {{.name = "first", .folder = Folder(), .settings = config.defaults}};
  std::string tested;
  const absl::Status status =
      Server::Start(
          config,
          {.load_model = [](const ModelFolder&) -> absl::StatusOr<std::unique_ptr<const Model>> {
             return std::make_unique<FakeModel>();
           },
           .self_test =
               [&tested](const ModelFolder& folder, const Model& model) {
                 tested = folder.name + " " + model.info().architecture;
                 return absl::FailedPreconditionError("a rose was a tulip");
               },
           .decode = FakeDecode,
           .prepare_decode_thread = nullptr,
           .clock = clock_})
          .status();
  EXPECT_EQ(tested, "first fake");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(status.message()), "cannot load model \"first\": a rose was a tulip");
}

TEST_F(ServerTest, RefusesAPortThatIsInUse) {
  Start();
  ServerConfig config;
  config.http_address = config.metrics_address = "127.0.0.1:0";
  config.grpc_address = server_->grpc_address();
  config.calibrate = false;
  const ServerDependencies dependencies = {
      .load_model = [](const ModelFolder&) -> absl::StatusOr<std::unique_ptr<const Model>> {
        return std::make_unique<FakeModel>();
      },
      .decode = FakeDecode,
      .prepare_decode_thread = nullptr};
  auto expect_refused = [&](const ServerConfig& in_use, const std::string& address) {
    const absl::Status status = Server::Start(in_use, dependencies).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr(address));
  };
  expect_refused(config, server_->grpc_address());
  config.grpc_address = "127.0.0.1:0";
  config.http_address = server_->http_address();
  expect_refused(config, server_->http_address());
  config.http_address = "127.0.0.1:0";
  config.metrics_address = server_->metrics_address();
  expect_refused(config, server_->metrics_address());
}

}  // namespace
}  // namespace dla::server
