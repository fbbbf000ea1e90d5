#include "benchmarks/serving/load_target.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "dla/v1/classifier.grpc.pb.h"
#include "inference/grpc_service.grpc.pb.h"

namespace dla::bench {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<Answer> Ask(LoadTarget& target, size_t photo) {
  std::promise<absl::StatusOr<Answer>> answer;
  target.Send(photo, [&](absl::StatusOr<Answer> result) { answer.set_value(std::move(result)); });
  return answer.get_future().get();
}

// Serves `service` on a free port.
class GrpcServer {
 public:
  explicit GrpcServer(grpc::Service& service) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service);
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class Classifier final : public v1::Classifier::Service {
  grpc::Status Classify(grpc::ServerContext*, const v1::ClassifyRequest* request,
                        v1::ClassifyResponse* response) override {
    if (request->image().empty()) return {grpc::StatusCode::INVALID_ARGUMENT, "no image"};
    for (uint32_t i = 0; i < request->top_k(); ++i) {
      v1::Class* c = response->add_classes();
      c->set_index(i);
      c->set_label(absl::StrCat(request->model(), " ", request->image()));
      c->set_probability(0.5F);
    }
    return grpc::Status::OK;
  }
};

TEST(LoadTargetTest, AsksDlaServersForFiveClasses) {
  Classifier service;
  const GrpcServer server(service);
  const auto target = MakeDlaTarget(server.address(), "dla34", {"first", "second", ""});
  const auto answer = Ask(*target, 4);  // photos come round
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->size(), static_cast<size_t>(kTopK));
  EXPECT_EQ(answer->back().index, 4);
  EXPECT_EQ(answer->back().label, "dla34 second");
  EXPECT_EQ(answer->back().probability, 0.5);
  const auto error = Ask(*target, 2).status();
  EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(error.message(), HasSubstr("no image"));
}

// Answers a photo that begins with "raw" with the rest of its bytes, as they are.
class Kserve final : public inference::GRPCInferenceService::Service {
  grpc::Status ModelInfer(grpc::ServerContext*, const inference::ModelInferRequest* request,
                          inference::ModelInferResponse* response) override {
    EXPECT_EQ(request->model_name(), "dla34");
    EXPECT_EQ(request->inputs(0).datatype(), "BYTES");
    const std::string& raw = request->raw_input_contents(0);
    uint32_t length = 0;
    std::memcpy(&length, raw.data(), sizeof length);
    EXPECT_EQ(length, raw.size() - sizeof length);
    response->add_raw_output_contents(raw.substr(sizeof length + 3));
    return grpc::Status::OK;
  }
};

std::string Element(const std::string& text) {
  const auto length = static_cast<uint32_t>(text.size());
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

TEST(LoadTargetTest, ReadsWhatKserveAnswers) {
  Kserve service;
  const GrpcServer server(service);
  const auto target = MakeKserveTarget(
      server.address(), "dla34",
      {"raw" + Element("0.75:12:ratio 1:2") + Element("0.25:3:cat"),
       "raw" + Element("0.75:12:dog").substr(0, 9), "raw" + Element("cat"), "rawx"});
  const auto answer = Ask(*target, 0);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->size(), 2u);
  EXPECT_EQ(answer->front().index, 12);
  EXPECT_EQ(answer->front().label, "ratio 1:2");
  EXPECT_EQ(answer->front().probability, 0.75);
  for (const size_t broken : {1, 2, 3}) {
    EXPECT_EQ(Ask(*target, broken).status().code(), absl::StatusCode::kInternal) << broken;
  }
}

// Answers with the index 7 and others, and keeps what it was asked.
class Pixels final : public inference::GRPCInferenceService::Service {
 public:
  struct Seen {
    inference::ModelInferRequest request;
    std::string peer;
  };
  std::vector<Seen> seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  std::string region;       // as registered
  std::string first_bytes;  // of the shared memory
  uint64_t region_bytes = 0;

 private:
  grpc::Status SystemSharedMemoryRegister(
      grpc::ServerContext*, const inference::SystemSharedMemoryRegisterRequest* request,
      inference::SystemSharedMemoryRegisterResponse*) override {
    region = request->name();
    region_bytes = request->byte_size();
    std::ifstream memory("/dev/shm" + request->key(), std::ios::binary);
    first_bytes.assign(std::istreambuf_iterator<char>(memory), {});
    return first_bytes.size() == region_bytes
               ? grpc::Status::OK
               : grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "wrong size");
  }

  grpc::Status ModelInfer(grpc::ServerContext* context, const inference::ModelInferRequest* request,
                          inference::ModelInferResponse* response) override {
    const std::lock_guard lock(mutex_);
    seen_.push_back({*request, context->peer()});
    const int64_t photos = request->model_name() == "short" ? 1 : request->inputs(0).shape(0);
    std::vector<int32_t> indices(photos * kTopK, 7);
    response->add_raw_output_contents(reinterpret_cast<const char*>(indices.data()),
                                      indices.size() * sizeof(int32_t));
    return grpc::Status::OK;
  }

  std::mutex mutex_;
  std::vector<Seen> seen_;
};

TEST(LoadTargetTest, SendsPixelsThatDifferFromRequestToRequest) {
  Pixels service;
  const GrpcServer server(service);
  const auto target =
      MakePixelsTarget(server.address(), "dla34", {.side = 8, .photos_per_request = 3}).value();
  for (size_t photo : {0, 1}) {
    const auto answer = Ask(*target, photo);
    ASSERT_TRUE(answer.ok()) << answer.status();
    ASSERT_EQ(answer->size(), static_cast<size_t>(kTopK));
    EXPECT_EQ(answer->front().index, 7);
  }
  const auto seen = service.seen();
  ASSERT_EQ(seen.size(), 2u);
  const auto& input = seen[0].request.inputs(0);
  EXPECT_EQ(input.name(), "pixels");
  EXPECT_EQ(input.datatype(), "UINT8");
  EXPECT_THAT(input.shape(), testing::ElementsAre(3, 8, 8, 3));
  EXPECT_EQ(seen[0].request.raw_input_contents(0).size(), 3u * 8 * 8 * 3);
  EXPECT_NE(seen[0].request.raw_input_contents(0), seen[1].request.raw_input_contents(0));
}

TEST(LoadTargetTest, PutsPixelsIntoSharedMemoryThatGoesAway) {
  Pixels service;
  const GrpcServer server(service);
  const PixelsOptions options = {.side = 8, .photos_per_request = 2, .shared_memory = true};
  {
    const auto target = MakePixelsTarget(server.address(), "dla34", options).value();
    ASSERT_TRUE(Ask(*target, 1).ok());
    const auto seen = service.seen();
    EXPECT_EQ(seen[0].request.raw_input_contents_size(), 0);
    const auto& parameters = seen[0].request.inputs(0).parameters();
    EXPECT_EQ(parameters.at("shared_memory_region").string_param(), service.region);
    EXPECT_EQ(parameters.at("shared_memory_byte_size").int64_param(), 2 * 8 * 8 * 3);
    EXPECT_EQ(parameters.at("shared_memory_offset").int64_param(), 2 * 8 * 8 * 3);
    EXPECT_GE(service.region_bytes, 2u * 2 * 8 * 8 * 3);
    EXPECT_TRUE(std::filesystem::exists("/dev/shm" + service.region));
  }
  EXPECT_FALSE(std::filesystem::exists("/dev/shm" + service.region));
}

TEST(LoadTargetTest, AnAnswerForFewerPhotosThanWereSentIsAnError) {
  Pixels service;
  const GrpcServer server(service);
  const auto target =
      MakePixelsTarget(server.address(), "short", {.side = 8, .photos_per_request = 2}).value();
  EXPECT_EQ(Ask(*target, 0).status().code(), absl::StatusCode::kInternal);
}

TEST(LoadTargetTest, UsesAsManyConnectionsAsItIsTold) {
  Pixels service;
  const GrpcServer server(service);
  const auto target =
      MakePixelsTarget(server.address(), "dla34", {.side = 8, .connections = 3}).value();
  for (size_t photo = 0; photo < 6; ++photo) ASSERT_TRUE(Ask(*target, photo).ok());
  std::set<std::string> peers;
  for (const auto& seen : service.seen()) peers.insert(seen.peer);
  EXPECT_EQ(peers.size(), 3u);
}

class HttpTargetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_.Post("/classify", [this](const httplib::Request& request, httplib::Response& response) {
      const std::lock_guard lock(mutex_);
      callers_.insert(request.remote_port);
      if (request.body == "bad") response.status = 503;
      response.set_content(request.body, "application/json");
    });
    server_.set_keep_alive_max_count(1000);
    server_.set_tcp_nodelay(true);
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }

  void TearDown() override {
    server_.stop();
    thread_.join();
  }

  std::unique_ptr<LoadTarget> Target(std::vector<std::string> photos) const {
    return MakeHttpTarget(absl::StrCat("http://127.0.0.1:", port_, "/classify"), std::move(photos))
        .value();
  }

  size_t connections() {
    const std::lock_guard lock(mutex_);
    return callers_.size();
  }

 private:
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  std::mutex mutex_;
  std::set<int> callers_;
};

TEST_F(HttpTargetTest, PostsThePhotoAndReadsTheList) {
  const auto target =
      Target({R"([{"index": 3, "label": "cat", "probability": 0.5}])", "bad", "{", "[1]"});
  const auto answer = Ask(*target, 0);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->size(), 1u);
  EXPECT_EQ(answer->front().index, 3);
  EXPECT_EQ(answer->front().label, "cat");
  EXPECT_THAT(Ask(*target, 1).status().message(), HasSubstr("503"));
  EXPECT_FALSE(Ask(*target, 2).ok());
  EXPECT_FALSE(Ask(*target, 3).ok());
}

// What answers send next must not open connections: they cost the server a thread each.
TEST_F(HttpTargetTest, OpensNoMoreConnectionsThanRequestsWereInFlight) {
  const auto target = Target({"[]"});
  absl::Notification done;
  std::function<void(int)> send = [&](int left) {
    target->Send(0, [&, left](const absl::StatusOr<Answer>& answer) {
      EXPECT_TRUE(answer.ok()) << answer.status();
      left == 0 ? done.Notify() : send(left - 1);
    });
  };
  send(50);
  done.WaitForNotification();
  EXPECT_EQ(connections(), 1u);
}

TEST(LoadTargetTest, RefusesAUrlThatIsNone) {
  for (const char* url : {"", "127.0.0.1:80/x", "http://127.0.0.1:80", "https://127.0.0.1/x"}) {
    EXPECT_EQ(MakeHttpTarget(url, {""}).status().code(), absl::StatusCode::kInvalidArgument) << url;
  }
}

}  // namespace
}  // namespace dla::bench
