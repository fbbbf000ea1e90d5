// The real dla-server with a plugin that has cards without cards: what an operator of GPUs sees.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "dla/v1/classifier.grpc.pb.h"
#include "httplib.h"
#include "model/cpu/conv_kernel.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Environment = std::vector<std::pair<std::string, std::string>>;

class GpuServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cpu::FindKernels(cpu::Element::kFloat32) == nullptr) {
      GTEST_SKIP() << "the fake cards compute with AVX-512, which this processor lacks";
    }
    // The program looks for its plugin in the folder that it lies in.
    std::filesystem::copy(ProgramPath("dla-server"), dir_.Path("dla-server"));
    std::filesystem::copy(DLA_FAKE_PLUGIN, dir_.Path("libdla_cuda.so"));
  }

  std::unique_ptr<Subprocess> Launch(std::vector<std::string> flags, Environment environment = {}) {
    SubprocessOptions options;
    options.command = {dir_.Path("dla-server"),      "--grpc-address=127.0.0.1:0",
                       "--http-address=127.0.0.1:0", "--metrics-address=127.0.0.1:0",
                       "--drain-timeout=20",         "--calibrate=false"};
    options.command.insert(options.command.end(), flags.begin(), flags.end());
    options.environment = std::move(environment);
    return *Subprocess::Start(std::move(options));
  }

  void Start(std::vector<std::string> flags, Environment environment = {}) {
    process_ = Launch(std::move(flags), std::move(environment));
    const auto ready = process_->WaitForLine(" ready ");
    ASSERT_TRUE(ready.ok()) << ready.status() << process_->errors();
    metrics_ = LogField(*ready, "metrics");
    stub_ = v1::Classifier::NewStub(
        grpc::CreateChannel(LogField(*ready, "grpc"), grpc::InsecureChannelCredentials()));
  }

  std::string RefusalOf(std::vector<std::string> flags, Environment environment = {}) {
    const auto process = Launch(std::move(flags), std::move(environment));
    EXPECT_EQ(process->Wait().value_or(0), 1);
    return process->errors();
  }

  grpc::Status Classify(v1::ClassifyResponse* response, const std::string& model = "",
                        int top_k = 0) {
    v1::ClassifyRequest request;
    request.set_model(model);
    request.set_top_k(top_k);
    request.set_image(ReadFile(DLA_TEST_DATA "/photos/roses_1793211631.jpg"));
    request.set_include_embedding(true);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
    return stub_->Classify(&context, request, response);
  }

  std::string Metrics() {
    httplib::Client client("http://" + metrics_);
    const auto response = client.Get("/metrics");
    return response ? response->body : "";
  }

  TempDir dir_;
  std::unique_ptr<Subprocess> process_;
  std::string metrics_;
  std::unique_ptr<v1::Classifier::Stub> stub_;
};

TEST_F(GpuServerTest, TakesTheCardsThatAreThere) {
  Start({});
  EXPECT_THAT(
      process_->errors(),
      AllOf(HasSubstr("device cuda:0 name=\"Fake Card\" capability=9.0"),
            HasSubstr("device cuda:1 "), HasSubstr("precision=fp16 device=cuda:0,1"),
            HasSubstr("engine=cuda-fp16"), HasSubstr("replicas=4 threads=1 max_batch=128")));
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(&response).ok());
  EXPECT_EQ(response.classes(0).label(), "roses");
  EXPECT_EQ(response.embedding_size(), 256);
  EXPECT_THAT(Metrics(),
              HasSubstr("dla_gpu_stage_seconds_count{model=\"flowers5\",stage=\"copy_in\"} 1"));
}

TEST_F(GpuServerTest, AnswersAsTheProcessorDoes) {
  Start({});
  v1::ClassifyResponse on_cards;
  ASSERT_TRUE(Classify(&on_cards).ok());
  Start({"--device=cpu", "--precision=fp32"});
  EXPECT_THAT(Metrics(), Not(HasSubstr("dla_gpu_stage_seconds_count")));
  v1::ClassifyResponse on_processor;
  ASSERT_TRUE(Classify(&on_processor).ok());
  ASSERT_EQ(on_cards.classes_size(), on_processor.classes_size());
  for (int i = 0; i < on_cards.classes_size(); ++i) {
    EXPECT_EQ(on_cards.classes(i).index(), on_processor.classes(i).index());
    EXPECT_EQ(on_cards.classes(i).label(), on_processor.classes(i).label());
    EXPECT_FLOAT_EQ(on_cards.classes(i).probability(), on_processor.classes(i).probability());
  }
  for (int i = 0; i < on_cards.embedding_size(); ++i) {
    EXPECT_EQ(on_cards.embedding(i), on_processor.embedding(i));
  }
}

TEST_F(GpuServerTest, RunsEachModelWhereItIsPlaced) {
  const std::string zoo = DLA_ZOO "/flowers5";
  Start({"--model=a=" + zoo, "--model=b=" + zoo, "--model=c=" + zoo, "--device=cuda:1",
         "--place=a=cuda:0", "--place=c=cpu", "--replicas=2", "--max-batch=5"});
  EXPECT_THAT(process_->errors(),
              AllOf(HasSubstr("device=cuda:0 engine=cuda-fp16 replicas=4 threads=1 max_batch=5"),
                    HasSubstr("device=cuda:1 engine=cuda-fp16 replicas=4 threads=1 max_batch=5"),
                    HasSubstr("device=cpu ")));
  for (const char* model : {"a", "b", "c"}) {
    v1::ClassifyResponse response;
    ASSERT_TRUE(Classify(&response, model).ok());
    EXPECT_EQ(response.classes(0).label(), "roses");
  }
}

TEST_F(GpuServerTest, GoesOnWhenACardIsLost) {
  Start({}, {{"DLA_FAKE_LOST", dir_.Path("lost")}});
  std::ofstream(dir_.Path("lost0")) << "now";
  for (int i = 0; i < 8; ++i) {
    v1::ClassifyResponse response;
    const grpc::Status status = Classify(&response);
    EXPECT_TRUE(status.ok()) << status.error_message();  // on the other card, if need be again
  }
  EXPECT_THAT(process_->errors(), HasSubstr("cuda:0 (Fake Card): the device is lost"));
  EXPECT_THAT(Metrics(), HasSubstr("dla_model_healthy{model=\"flowers5\"} 1"));
}

TEST_F(GpuServerTest, IsNotServingButLivesOnceAllCardsAreLost) {
  const std::string zoo = DLA_ZOO "/flowers5";
  Start({"--model=gpu=" + zoo, "--model=cpu=" + zoo, "--place=cpu=cpu", "--device=cuda:0"},
        {{"DLA_FAKE_LOST", dir_.Path("lost")}});
  std::ofstream(dir_.Path("lost0")) << "now";
  v1::ClassifyResponse response;
  for (int i = 0; i < 8; ++i) {
    const grpc::Status status = Classify(&response, "gpu");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  }
  EXPECT_THAT(Metrics(), AllOf(HasSubstr("dla_model_healthy{model=\"gpu\"} 0"),
                               HasSubstr("dla_model_healthy{model=\"cpu\"} 1")));
  EXPECT_THAT(process_->errors(), HasSubstr("fell off the bus"));
  EXPECT_TRUE(Classify(&response, "cpu").ok());
  process_->Signal(SIGTERM);
  EXPECT_EQ(process_->Wait().value_or(-1), 0);
}

TEST_F(GpuServerTest, TakesSmallerBatchesWhereMemoryIsShort) {
  Start({}, {{"DLA_FAKE_LARGEST_STEP", "10"}});
  EXPECT_THAT(process_->errors(), HasSubstr("max_batch=8"));
  v1::ClassifyResponse response;
  EXPECT_TRUE(Classify(&response).ok());
  EXPECT_THAT(RefusalOf({}, {{"DLA_FAKE_LARGEST_STEP", "0"}}),
              HasSubstr("no memory for a single photo"));
}

TEST_F(GpuServerTest, SaysWhyItComputesOnTheProcessor) {
  const Environment none = {{"DLA_FAKE_NO_CARDS", "the NVIDIA driver is too old"}};
  Start({}, none);
  EXPECT_THAT(process_->errors(),
              AllOf(HasSubstr("devices cuda=0 cpu=yes why=\"the NVIDIA driver is too old\""),
                    HasSubstr("device=cpu")));
  v1::ClassifyResponse response;
  EXPECT_TRUE(Classify(&response).ok());
  EXPECT_THAT(RefusalOf({"--device=cuda"}, none),
              HasSubstr("device \"cuda\" cannot be used: the NVIDIA driver is too old"));
}

TEST_F(GpuServerTest, RefusesWhatIsNotThere) {
  EXPECT_THAT(RefusalOf({"--device=cuda:2"}),
              HasSubstr("there is no cuda:2: CUDA sees 2 cards, counted from 0"));
  EXPECT_THAT(RefusalOf({"--place=rose=cuda:1"}),
              HasSubstr("--place \"rose=cuda:1\": there is no model of that name"));
  EXPECT_THAT(RefusalOf({"--device=cuda"}, {{"DLA_FAKE_VERSION", "0.0.1"}}),
              HasSubstr("of version 0.0.1"));
  std::ofstream(dir_.Path("libdla_cuda.so"), std::ios::trunc) << "not a library";
  EXPECT_THAT(RefusalOf({"--device=cuda"}), AllOf(HasSubstr("CUDA libraries cannot be loaded"),
                                                  HasSubstr("script/bootstrap --cuda")));
  std::filesystem::remove(dir_.Path("libdla_cuda.so"));
  EXPECT_THAT(RefusalOf({"--device=cuda"}), HasSubstr("no libdla_cuda.so in"));
}

}  // namespace
}  // namespace dla::testing
