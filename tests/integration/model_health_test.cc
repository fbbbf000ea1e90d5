// What callers, load balancers and operators see of a model whose forward passes go wrong, through
// a whole server in this process.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <stdexcept>
#include <thread>

#include "dla/v1/classifier.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "httplib.h"
#include "inference/grpc_service.grpc.pb.h"
#include "server/address.h"
#include "server/server.h"
#include "server/strays.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"
#include "tests/support/faults.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using grpc::health::v1::HealthCheckResponse;
using std::chrono::seconds;
using ::testing::HasSubstr;

class ModelHealthTest : public ::testing::Test {
 protected:
  ~ModelHealthTest() override {
    hang_.Release();
    server_.reset();
    while (Strays::total() > 0) std::this_thread::yield();
  }

  // Serves fake models "sick" and "well" with one replica each.
  void Start() {
    ServerConfig config;
    config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
    config.calibrate = false;
    config.defaults.replicas = 1;
    folder_.Write("config.json", "{}");
    for (const char* name : {"sick", "well"}) {
      config.models.push_back(
          {.name = name, .folder = folder_.Path(), .settings = config.defaults});
    }
    auto server = Server::Start(config, {.load_model = [this](const ModelFolder& folder)
                                             -> absl::StatusOr<std::unique_ptr<const Model>> {
                                           auto model = std::make_unique<FakeModel>();
                                           if (folder.name == "sick") sick_ = model.get();
                                           return model;
                                         },
                                         .decode = FakeDecode,
                                         .prepare_decode_thread = nullptr,
                                         .clock = clock_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
  }

  grpc::Status Classify(const std::string& model, int mark) {
    grpc::ClientContext context;
    v1::ClassifyRequest request;
    v1::ClassifyResponse response;
    request.set_model(model);
    request.set_image(std::string(1, static_cast<char>(mark)));
    return v1::Classifier::NewStub(channel_)->Classify(&context, request, &response);
  }

  HealthCheckResponse::ServingStatus Health(const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    HealthCheckResponse response;
    request.set_service(service);
    auto stub = grpc::health::v1::Health::NewStub(channel_);
    return stub->Check(&context, request, &response).ok() ? response.status()
                                                          : HealthCheckResponse::SERVICE_UNKNOWN;
  }
  // With time passing by.
  void AwaitHealth(const std::string& model, HealthCheckResponse::ServingStatus status,
                   Duration step) {
    while (Health(model) != status) clock_.Advance(step);
  }

  bool Ready(const std::string& model) {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    inference::ModelReadyResponse response;
    request.set_name(model);
    auto stub = inference::GRPCInferenceService::NewStub(channel_);
    EXPECT_TRUE(stub->ModelReady(&context, request, &response).ok());
    return response.ready();
  }

  // "READY", or "UNAVAILABLE: reason".
  std::string Index(const std::string& model) {
    grpc::ClientContext context;
    inference::RepositoryIndexResponse response;
    auto stub = inference::GRPCInferenceService::NewStub(channel_);
    EXPECT_TRUE(stub->RepositoryIndex(&context, {}, &response).ok());
    for (const auto& entry : response.models()) {
      if (entry.name() != model) continue;
      return entry.state() + (entry.reason().empty() ? "" : ": " + entry.reason());
    }
    return "none";
  }

  std::string Metrics() {
    const HostPort where = SplitAddress(server_->metrics_address());
    auto response = httplib::Client(where.host, where.port).Get("/metrics");
    return response ? response->body : "no response";
  }

  dla::testing::TempDir folder_;
  FakeClock clock_;
  Hang hang_;
  FakeModel* sick_ = nullptr;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(ModelHealthTest, AModelThatFailsStopsServingAndComesBackByItself) {
  Start();
  EXPECT_TRUE(Classify("sick", 1).ok());
  EXPECT_EQ(Health("sick"), HealthCheckResponse::SERVING);
  EXPECT_TRUE(Ready("sick"));
  EXPECT_EQ(Index("sick"), "READY");

  sick_->InjectFault([](const std::vector<int>&) -> absl::Status {
    throw std::runtime_error("the device fell off the bus");
  });
  const grpc::Status failed = Classify("sick", 1);
  EXPECT_EQ(failed.error_code(),
            grpc::StatusCode::UNAVAILABLE);  // the trial before the retry failed
  EXPECT_THAT(failed.error_message(), HasSubstr("fell off the bus"));
  AwaitHealth("sick", HealthCheckResponse::NOT_SERVING, Duration::zero());
  EXPECT_FALSE(Ready("sick"));
  EXPECT_THAT(Index("sick"),
              HasSubstr("UNAVAILABLE: the model threw an exception: the device fell"));
  EXPECT_THAT(Metrics(), HasSubstr("dla_model_healthy{model=\"sick\"} 0"));
  EXPECT_THAT(Metrics(),
              HasSubstr("dla_batch_failures_total{model=\"sick\",reason=\"exception\"} 1"));
  EXPECT_EQ(Classify("sick", 1).error_code(), grpc::StatusCode::UNAVAILABLE);

  // The other model and the server as a whole are not concerned.
  EXPECT_TRUE(Classify("well", 1).ok());
  EXPECT_EQ(Health("well"), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health(""), HealthCheckResponse::SERVING);

  // No requests, as a load balancer sends none any more; trials find out.
  sick_->InjectFault(nullptr);
  AwaitHealth("sick", HealthCheckResponse::SERVING, seconds(1));
  EXPECT_TRUE(Ready("sick"));
  EXPECT_EQ(Index("sick"), "READY");
  EXPECT_TRUE(Classify("sick", 1).ok());
  EXPECT_THAT(Metrics(), HasSubstr("dla_model_healthy{model=\"sick\"} 1"));
}

TEST_F(ModelHealthTest, AServerWithAReplicaThatHangsAnswersAndExits) {
  Start();
  sick_->InjectFault(hang_.On(3));
  auto answer = std::async(std::launch::async, [this] { return Classify("sick", 3); });
  for (int hung = 1; hung <= 2; ++hung) {
    hang_.Await(hung);
    clock_.AwaitWaiters(1);
    clock_.Advance(seconds(30));
  }
  const grpc::Status failed = answer.get();
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(failed.error_message(), HasSubstr("did not end within 30000 ms"));
  EXPECT_TRUE(Classify("sick", 1).ok());
  EXPECT_EQ(Strays::total(), 2);
  EXPECT_TRUE(server_->Drain(seconds(5)).ok());
  server_.reset();  // does not wait for them
  EXPECT_EQ(Strays::total(), 2);
}

}  // namespace
}  // namespace dla::server
