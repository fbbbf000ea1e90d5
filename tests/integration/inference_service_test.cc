// The Open Inference Protocol on a fake model, through real gRPC on loopback. Triton's own client
// is the judge in tests/clients; this runs under the sanitizers, too.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "inference/grpc_service.grpc.pb.h"
#include "server/server.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"
#include "tests/support/temp_dir.h"

namespace dla::server {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class InferenceServiceTest : public ::testing::Test {
 protected:
  InferenceServiceTest() {
    folder_.Write("config.json", "{}");
    ServerConfig config;
    config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
    config.calibrate = false;  // a fake model has no speed
    config.defaults.replicas = 2;
    config.defaults.max_batch = 4;
    config.models = {{.name = "fake", .folder = folder_.Path(), .settings = config.defaults}};
    server_ = Server::Start(config, {.load_model = [this](const ModelFolder&)
                                         -> absl::StatusOr<std::unique_ptr<const Model>> {
                                       auto model = std::make_unique<FakeModel>(4);
                                       fake_ = model.get();
                                       return model;
                                     },
                                     .decode = FakeDecode,
                                     .clock = clock_})
                  .value();
    stub_ = inference::GRPCInferenceService::NewStub(
        grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials()));
  }

  // Each photo is a byte, which the fake model takes for the class. Typed contents.
  static ModelInferRequest Photos(const std::vector<std::string>& photos,
                                  const std::string& output = "indices") {
    ModelInferRequest request;
    request.set_model_name("fake");
    auto& input = *request.add_inputs();
    input.set_name("image");
    input.set_datatype("BYTES");
    input.add_shape(static_cast<int64_t>(photos.size()));
    for (const std::string& photo : photos) input.mutable_contents()->add_bytes_contents(photo);
    request.add_outputs()->set_name(output);
    (*request.mutable_parameters())["top_k"].set_int64_param(1);
    return request;
  }

  grpc::Status Infer(const ModelInferRequest& request, ModelInferResponse* response) {
    grpc::ClientContext context;
    return stub_->ModelInfer(&context, request, response);
  }

  dla::testing::TempDir folder_;
  FakeClock clock_;
  FakeModel* fake_ = nullptr;
  std::unique_ptr<Server> server_;
  std::unique_ptr<inference::GRPCInferenceService::Stub> stub_;
};

TEST_F(InferenceServiceTest, AnswersMorePhotosThanABatchHoldsInTheirOrder) {
  std::vector<std::string> photos;
  for (int i = 0; i < 30; ++i) photos.push_back(std::string(1, static_cast<char>(i % 4)));
  ModelInferResponse response;
  const grpc::Status status = Infer(Photos(photos), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model_version(), "1");
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(30, 1));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(response.outputs(0).contents().int_contents(i), i % 4);
}

TEST_F(InferenceServiceTest, GivesLabelsAndEmbeddings) {
  ModelInferResponse response;
  ASSERT_TRUE(Infer(Photos({std::string(1, 3)}, "labels"), &response).ok());
  EXPECT_THAT(response.outputs(0).contents().bytes_contents(), ElementsAre("class 3"));
  response.Clear();
  ASSERT_TRUE(Infer(Photos({std::string(1, 3)}, "embedding"), &response).ok());
  EXPECT_THAT(response.outputs(0).contents().fp32_contents(), ElementsAre(3, 1));
}

TEST_F(InferenceServiceTest, NamesThePositionOfAPhotoThatFailsItsRequest) {
  ModelInferResponse response;
  const grpc::Status status = Infer(Photos({"\1", "\2", "bad", "\1"}), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("image[2]: not a photo"));
  EXPECT_TRUE(Infer(Photos({"\1"}), &response).ok());
}

TEST_F(InferenceServiceTest, AnswersEveryMessageOfAStreamByItsId) {
  constexpr int kRequests = 300;
  grpc::ClientContext context;
  auto stream = stub_->ModelStreamInfer(&context);
  std::thread writer([&stream] {
    for (int i = 0; i < kRequests; ++i) {
      ModelInferRequest request = Photos({i % 3 == 0 ? "bad" : std::string(1, '\1')});
      request.set_id(std::to_string(i));
      stream->Write(request);
    }
    stream->WritesDone();
  });
  std::set<std::string> answered;
  int errors = 0;
  inference::ModelStreamInferResponse response;
  while (stream->Read(&response)) {
    answered.insert(response.infer_response().id());
    if (!response.error_message().empty()) ++errors;
  }
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(answered.size(), size_t{kRequests});
  EXPECT_EQ(errors, kRequests / 3);
}

TEST_F(InferenceServiceTest, AnswersWhatWaitsWhenTheServerDrains) {
  fake_->Hold();
  ModelInferResponse response;
  grpc::Status status;
  std::thread caller(
      [&] { status = Infer(Photos(std::vector<std::string>(20, "\2")), &response); });
  fake_->AwaitRuns(1);
  std::thread drain([&] { EXPECT_TRUE(server_->Drain(std::chrono::seconds(60)).ok()); });
  fake_->Release();
  caller.join();
  drain.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(InferenceServiceTest, CountsPhotosBatchesAndRequests) {
  ModelInferResponse response;
  ASSERT_TRUE(Infer(Photos({"\1", "\2", "\3"}), &response).ok());
  ASSERT_FALSE(Infer(Photos({"bad"}), &response).ok());
  grpc::ClientContext context;
  inference::ModelStatisticsResponse statistics;
  ASSERT_TRUE(stub_->ModelStatistics(&context, {}, &statistics).ok());
  ASSERT_EQ(statistics.model_stats_size(), 1);
  const inference::ModelStatistics& model = statistics.model_stats(0);
  EXPECT_EQ(model.name(), "fake");
  EXPECT_EQ(model.inference_count(), 3u);
  EXPECT_EQ(model.inference_stats().success().count(), 1u);
  EXPECT_EQ(model.inference_stats().fail().count(), 1u);
  EXPECT_EQ(model.inference_stats().queue().count(), 3u);
  uint64_t photos = 0;
  uint64_t batches = 0;
  for (const auto& batch : model.batch_stats()) {
    photos += batch.batch_size() * batch.compute_infer().count();
    batches += batch.compute_infer().count();
  }
  EXPECT_EQ(photos, 3u);
  EXPECT_EQ(batches, model.execution_count());
}

}  // namespace
}  // namespace dla::server
