// The real dla-server as an operator starts it, with real photos through real gRPC.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "dla/v1/classifier.grpc.pb.h"
#include "httplib.h"
#include "model/architecture.h"
#include "tests/support/formula_model.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Photo(const std::string& name) {
  std::string bytes = ReadFile(DLA_TEST_DATA "/photos/" + name);
  EXPECT_FALSE(bytes.empty()) << name;
  return bytes;
}

std::string Rose() { return Photo("roses_1793211631.jpg"); }

// The start of a PNG that declares 100,000 x 100,000 pixels: signature, IHDR and its checksum.
std::string HugePng() {
  const char bytes[] =
      "\x89PNG\r\n\x1a\n"
      "\0\0\0\rIHDR\0\x01\x86\xa0\0\x01\x86\xa0\b\x02\0\0\0"
      "\x27\x30\x9c\x9f";
  return std::string(bytes, sizeof bytes - 1);
}

class DlaServerTest : public ::testing::Test {
 protected:
  // Starts `dla-server FLAGS...` on free ports of loopback and waits until it serves.
  void Start(std::vector<std::string> flags = {}) {
    process_ = Launch(std::move(flags));
    auto ready = process_->WaitForLine(" ready ");
    ASSERT_TRUE(ready.ok()) << ready.status();
    metrics_ = LogField(*ready, "metrics");
    grpc_ = LogField(*ready, "grpc");
    channel_ = grpc::CreateChannel(grpc_, grpc::InsecureChannelCredentials());
    stub_ = v1::Classifier::NewStub(channel_);
  }

  static std::unique_ptr<Subprocess> Launch(std::vector<std::string> flags) {
    SubprocessOptions options;
    options.command = {ProgramPath("dla-server"),
                       "--grpc-address",
                       "127.0.0.1:0",
                       "--http-address",
                       "127.0.0.1:0",
                       "--metrics-address",
                       "127.0.0.1:0",
                       "--drain-timeout=20",
                       "--calibrate=false"};
    options.command.insert(options.command.end(), flags.begin(), flags.end());
    return *Subprocess::Start(std::move(options));
  }

  // Expects dla-server to refuse to start, with one line about it on stderr, and returns that line.
  static std::string RefusalOf(std::vector<std::string> flags) {
    auto process = Launch(std::move(flags));
    const auto code = process->Wait();
    EXPECT_TRUE(code.ok()) << code.status();
    EXPECT_GT(code.value_or(0), 0);
    EXPECT_LT(code.value_or(0), 128) << "ended by a signal";
    std::vector<std::string> complaints;
    for (absl::string_view line : absl::StrSplit(process->errors(), '\n')) {
      if (absl::StartsWith(line, "dla-server: ")) complaints.emplace_back(line);
    }
    EXPECT_EQ(complaints.size(), 1u) << process->errors();
    return complaints.empty() ? "" : complaints.back();
  }

  grpc::Status Classify(const v1::ClassifyRequest& request, v1::ClassifyResponse* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
    return stub_->Classify(&context, request, response);
  }

  grpc::Status ClassifyImage(const std::string& image) {
    v1::ClassifyRequest request;
    request.set_image(image);
    v1::ClassifyResponse response;
    return Classify(request, &response);
  }

  void ExpectStillServes() {
    v1::ClassifyRequest request;
    request.set_image(Rose());
    v1::ClassifyResponse response;
    const grpc::Status status = Classify(request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_GT(response.classes_size(), 0);
  }

  TempDir dir_;
  std::unique_ptr<Subprocess> process_;
  std::string grpc_;
  std::string metrics_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Classifier::Stub> stub_;
};

TEST_F(DlaServerTest, ServesTheEmbeddedModelFromAnyFolder) {
  Start();
  v1::ClassifyRequest request;
  request.set_image(Rose());
  request.set_include_embedding(true);
  request.set_normalize_embedding(true);
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(request, &response).ok());
  EXPECT_EQ(response.model(), "flowers5");
  ASSERT_EQ(response.classes_size(), 5);
  EXPECT_EQ(response.classes(0).label(), "roses");
  float sum = 0;
  for (int i = 0; i < 5; ++i) {
    sum += response.classes(i).probability();
    const float before = i == 0 ? 1.0f : response.classes(i - 1).probability();
    EXPECT_LE(response.classes(i).probability(), before);
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  ASSERT_EQ(response.embedding_size(), 256);
  double length = 0;
  for (float value : response.embedding()) length += value * value;
  EXPECT_NEAR(length, 1, 1e-4);
  EXPECT_GT(response.timing().decode().nanos(), 0);
  EXPECT_GT(response.timing().inference().nanos(), 0);
}

// From the file to the probability: decoding, resizing, network, softmax. Expected values:
// tests/golden/make_flowers_golden.py.
TEST_F(DlaServerTest, AgreesWithTimmOnThePhotosThatShipWithTheProject) {
  Start({"--precision", "fp32"});
  std::vector<std::string> lines =
      absl::StrSplit(ReadFile(DLA_TEST_GOLDEN "/flowers5.csv"), '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 9u);
  const std::vector<std::string> labels = absl::StrSplit(lines.front(), ',');
  lines.erase(lines.begin());
  for (const std::string& line : lines) {
    const std::vector<std::string> expected = absl::StrSplit(line, ',');
    v1::ClassifyRequest request;
    request.set_image(Photo(expected[0]));
    v1::ClassifyResponse response;
    ASSERT_TRUE(Classify(request, &response).ok());
    ASSERT_EQ(response.classes_size(), 5);
    for (const v1::Class& each : response.classes()) {
      EXPECT_EQ(each.label(), labels.at(each.index() + 1));
      EXPECT_NEAR(each.probability(), std::stod(expected.at(each.index() + 1)), 2e-5) << line;
    }
  }
}

TEST_F(DlaServerTest, ServesEachOfTheTwelveVariantsAndAFineTunedOne) {
  std::vector<std::string> flags;
  for (const Architecture& architecture : AllArchitectures()) {
    const std::string name(architecture.name);
    WriteModelFolder(dir_.Path(name), MakeConfigJson(name, 1000, 64, 64),
                     MakeFormulaTensors(name, 1000));
    flags.insert(flags.end(), {"--model", absl::StrCat(name, "=", dir_.Path(name))});
  }
  // As timm's users save it: three classes of their own.
  std::string config = MakeConfigJson("dla34", 3, 64, 96);
  config.insert(config.find('{') + 1, R"("label_names": ["cat", "dog", "neither"],)");
  WriteModelFolder(dir_.Path("mine/7"), config, MakeFormulaTensors("dla34", 3));
  flags.insert(flags.end(), {"--model", absl::StrCat("mine=", dir_.Path("mine"))});
  Start(flags);

  for (const Architecture& architecture : AllArchitectures()) {
    v1::ClassifyRequest request;
    request.set_model(std::string(architecture.name));
    request.set_image(Rose());
    request.set_include_embedding(true);
    v1::ClassifyResponse response;
    const grpc::Status status = Classify(request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.model(), architecture.name);
    ASSERT_EQ(response.classes_size(), 5);
    EXPECT_FALSE(response.classes(0).label().empty());
    EXPECT_EQ(response.classes(0).id().substr(0, 1), "n");
    EXPECT_EQ(response.embedding_size(), architecture.embedding_size());
  }
  v1::ClassifyRequest request;
  request.set_model("mine");
  request.set_image(Rose());
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(request, &response).ok());
  EXPECT_EQ(response.model_version(), "7");
  ASSERT_EQ(response.classes_size(), 3);
  EXPECT_THAT(response.classes(0).label(), ::testing::AnyOf("cat", "dog", "neither"));

  v1::ListModelsResponse list;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->ListModels(&context, {}, &list).ok());
  EXPECT_EQ(list.models_size(), 13);
}

TEST_F(DlaServerTest, SaysWhatIsWrongWithAPhotoAndLivesOn) {
  Start();
  const std::string rose = Rose();
  struct Case {
    std::string image, message;
  };
  const Case cases[] = {{"", "no bytes"},
                        {"Dear Sir or Madam, please find attached", "text"},
                        {rose.substr(0, rose.size() / 2), "truncated"},
                        {HugePng(), "100000"},
                        {std::string("GIF89a\x01\x00\x01\x00", 10), "GIF"}};
  for (const Case& bad : cases) {
    const grpc::Status status = ClassifyImage(bad.image);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << bad.message;
    EXPECT_THAT(status.error_message(), HasSubstr(bad.message));
    ExpectStillServes();
  }

  // In one batch and in one stream, between good ones.
  v1::ClassifyBatchRequest batch;
  for (const Case& bad : cases) {
    batch.add_images(rose);
    batch.add_images(bad.image);
  }
  v1::ClassifyBatchResponse results;
  grpc::ClientContext batch_context;
  ASSERT_TRUE(stub_->ClassifyBatch(&batch_context, batch, &results).ok());
  grpc::ClientContext stream_context;
  auto stream = stub_->ClassifyStream(&stream_context);
  for (int i = 0; i < batch.images_size(); ++i) {
    v1::ClassifyStreamRequest message;
    message.set_id(i);
    message.mutable_request()->set_image(batch.images(i));
    ASSERT_TRUE(stream->Write(message));
  }
  stream->WritesDone();
  std::vector<v1::ClassifyResult> streamed(batch.images_size());
  v1::ClassifyStreamResponse message;
  int answers = 0;
  for (; stream->Read(&message); ++answers) streamed.at(message.id()) = message.result();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(answers, batch.images_size());
  for (int i = 0; i < batch.images_size(); ++i) {
    for (const v1::ClassifyResult& result : {results.results(i), streamed[i]}) {
      if (i % 2 == 0) {
        EXPECT_EQ(result.response().classes(0).label(), "roses") << i;
      } else {
        EXPECT_EQ(result.error().code(), grpc::StatusCode::INVALID_ARGUMENT) << i;
        EXPECT_THAT(result.error().message(), HasSubstr(cases[i / 2].message));
      }
    }
  }
}

TEST_F(DlaServerTest, RefusesBadRequestsByTheValueThatIsWrong) {
  Start({"--max-message-bytes", "1000000"});
  v1::ClassifyRequest request;
  v1::ClassifyResponse response;
  request.set_image(Rose());
  request.set_top_k(4'000'000'000u);
  grpc::Status status = Classify(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("4000000000"));

  request.set_top_k(1);
  request.set_model("resnet50");
  status = Classify(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("resnet50"), HasSubstr("flowers5")));

  status = ClassifyImage(std::string(2'000'000, 'x'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("1000000"));
  ExpectStillServes();
}

TEST_F(DlaServerTest, RefusesToStartAndNamesWhatIsWrongWithAModelFolder) {
  const std::string config = MakeConfigJson("dla46_c", 10, 64, 64);
  const FormulaTensors tensors = MakeFormulaTensors("dla46_c", 10);
  auto refusal = [this](const std::string& config_json, const FormulaTensors& with) {
    WriteModelFolder(dir_.Path("m"), config_json, with);
    return RefusalOf({"--model", absl::StrCat("m=", dir_.Path("m"))});
  };

  FormulaTensors missing = tensors;
  missing.erase("level3.tree2.root.conv.weight");
  EXPECT_THAT(refusal(config, missing), HasSubstr("level3.tree2.root.conv.weight"));

  FormulaTensors extra = tensors;
  extra["level9.conv.weight"] = MakeFormulaTensor("x", {1});
  EXPECT_THAT(refusal(config, extra), HasSubstr("level9.conv.weight"));

  FormulaTensors misshaped = tensors;
  misshaped["fc.weight"] = MakeFormulaTensor("fc.weight", {11, 256, 1, 1});
  EXPECT_THAT(refusal(config, misshaped), AllOf(HasSubstr("fc.weight"), HasSubstr("11")));

  EXPECT_THAT(refusal(MakeConfigJson("resnet50", 10, 64, 64), tensors),
              AllOf(HasSubstr("resnet50"), HasSubstr("dla34")));
  EXPECT_THAT(refusal(MakeConfigJson("dla46_c", 10, 225, 224), tensors), HasSubstr("225"));
  EXPECT_THAT(refusal("{\"architecture\": ", tensors), HasSubstr("config.json"));

  WriteModelFolder(dir_.Path("m"), config, tensors);
  WriteFile(dir_.Path("m/model.safetensors"), std::string("\0\0\0\0\0\0\0\x80{}", 10));
  EXPECT_THAT(RefusalOf({"--model", absl::StrCat("m=", dir_.Path("m"))}),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("9223372036854775808")));
  EXPECT_THAT(RefusalOf({"--model", "m=/no/such/folder"}), HasSubstr("/no/such/folder"));
}

TEST_F(DlaServerTest, RefusesToStartOnAPortInUseOrWithAWrongFlag) {
  Start();
  EXPECT_THAT(RefusalOf({"--grpc-address", grpc_}), AllOf(HasSubstr(grpc_), HasSubstr("in use")));
  EXPECT_THAT(RefusalOf({"--metrics-address", metrics_}), HasSubstr(metrics_));
  EXPECT_THAT(RefusalOf({"--max-batch", "0"}), HasSubstr("--max-batch"));
  EXPECT_THAT(RefusalOf({"--replicas", "some"}), AllOf(HasSubstr("some"), HasSubstr("auto")));
  EXPECT_THAT(RefusalOf({"--precision", "fp16", "--device", "cpu"}), HasSubstr("fp16"));
  ExpectStillServes();
}

TEST_F(DlaServerTest, CalibratesAtItsFirstStartAndReadsTheResultAtTheNext) {
  const std::string file = dir_.Path("cache/calibration.json");
  const std::vector<std::string> flags = {"--calibrate=true", "--calibration-cache", file};
  std::string first;
  // While other programs use the processors the result is not kept.
  do {
    Start(flags);
    first = *process_->WaitForLine(" calibrated ");
    EXPECT_NE(LogField(first, "seconds"), "") << first;
    EXPECT_THAT(*process_->WaitForLine(" plan "), HasSubstr(" decode_threads="));
    ExpectStillServes();
  } while (absl::StrContains(process_->errors(), " other programs "));
  EXPECT_THAT(ReadFile(file), AllOf(HasSubstr("\"dla46_c\""), HasSubstr("\"chosen\"")));
  EXPECT_EQ(LogField(*process_->WaitForLine(" kept="), "kept"), file);

  Start(flags);
  const std::string second = *process_->WaitForLine(" calibrated ");
  EXPECT_EQ(LogField(second, "read"), file);
  EXPECT_EQ(LogField(second, "seconds"), "");
  for (const char* key : {"replicas", "threads", "max_batch"}) {
    EXPECT_EQ(LogField(second, key), LogField(first, key)) << key;
    EXPECT_EQ(LogField(*process_->WaitForLine(" loaded "), key), LogField(first, key)) << key;
  }
  ExpectStillServes();

  WriteFile(file, "{ damaged");
  Start(flags);
  EXPECT_THAT(*process_->WaitForLine(" warning "), HasSubstr(file));
  EXPECT_NE(LogField(*process_->WaitForLine(" calibrated "), "seconds"), "");

  Start({"--calibrate=true", "--replicas=1", "--threads=1", "--max-batch=3"});
  EXPECT_EQ(LogField(*process_->WaitForLine(" loaded "), "max_batch"), "3");
  EXPECT_FALSE(absl::StrContains(process_->errors(), "calibrat")) << process_->errors();
}

TEST_F(DlaServerTest, AnswersEverythingItHasAcceptedAfterSigtermThenExitsCleanly) {
  Start();
  std::atomic<int> sent = 0, answered = 0, refused = 0;
  std::vector<std::thread> callers;
  const std::string rose = Rose();
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (;;) {
        ++sent;
        const grpc::Status status = ClassifyImage(rose);
        if (status.ok()) {
          ++answered;
        } else {
          // Sent elsewhere, never lost half-way.
          EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
          ++refused;
          return;
        }
      }
    });
  }
  while (answered < 20) std::this_thread::yield();
  process_->Signal(SIGTERM);
  for (std::thread& caller : callers) caller.join();
  const auto code = process_->Wait();
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, 0) << process_->errors();
  EXPECT_EQ(answered + refused, sent);
  EXPECT_EQ(refused, 4);
}

TEST_F(DlaServerTest, ShowsItsMetricsAsPrometheusLikesThem) {
  Start();
  ExpectStillServes();
  const std::vector<std::string> where = absl::StrSplit(metrics_, ':');
  auto response = httplib::Client(where[0], std::stoi(where[1])).Get("/metrics");
  ASSERT_TRUE(response);
  for (const char* name :
       {"dla_requests_total{", "dla_decode_seconds_bucket{", "dla_queue_seconds_bucket{",
        "dla_inference_seconds_bucket{", "dla_request_seconds_bucket{", "dla_batch_size_bucket{",
        "dla_queue_depth{", "dla_in_flight{", "dla_replicas{", "dla_build_info{"}) {
    EXPECT_THAT(response->body, HasSubstr(name));
  }
  auto promtool =
      *Subprocess::Start({.command = {"promtool", "check", "metrics"}, .input = response->body});
  EXPECT_EQ(*promtool->Wait(), 0) << promtool->output() << promtool->errors();
}

}  // namespace
}  // namespace dla::testing
