// `dla-client health` against a health service in this process. client_server_test and
// hardening_test ask the real one.
#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <latch>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/support/subprocess.h"

namespace dla::testing {
namespace {

using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

class FakeHealth final : public grpc::health::v1::Health::Service {
 public:
  std::map<std::string, HealthCheckResponse::ServingStatus> states;
  bool slow = false;     // answers are given once `answer` is open
  std::latch answer{1};  // outlives the calls, which may reach the server after the client is gone

 private:
  grpc::Status Check(grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest* request,
                     HealthCheckResponse* response) override {
    if (slow) answer.wait();
    const auto found = states.find(request->service());
    if (found == states.end()) return {grpc::StatusCode::NOT_FOUND, "unknown service"};
    response->set_status(found->second);
    return grpc::Status::OK;
  }
};

class ClientHealthTest : public ::testing::Test {
 protected:
  ClientHealthTest() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&health_);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }

  // Expects the exit code and this on standard output; returns standard error.
  std::string Ask(std::vector<std::string> flags, int code, const std::string& output) {
    flags.insert(flags.begin(), {ProgramPath("dla-client"), "health"});
    const auto client =
        *Subprocess::Start({.command = flags, .environment = {{"DLA_SERVER", address_}}});
    EXPECT_EQ(*client->Wait(), code);
    EXPECT_EQ(client->output(), output);
    return client->errors();
  }

  FakeHealth health_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(ClientHealthTest, OnlyServingIsWell) {
  health_.states[""] = HealthCheckResponse::SERVING;
  EXPECT_EQ(Ask({}, 0, "SERVING\n"), "");
  health_.states[""] = HealthCheckResponse::NOT_SERVING;
  EXPECT_EQ(Ask({}, 1, "NOT_SERVING\n"), "");
  health_.states[""] = HealthCheckResponse::UNKNOWN;
  EXPECT_EQ(Ask({}, 1, "UNKNOWN\n"), "");
}

TEST_F(ClientHealthTest, AsksForTheModelThatIsNamed) {
  health_.states = {{"", HealthCheckResponse::SERVING},
                    {"dla34", HealthCheckResponse::NOT_SERVING}};
  EXPECT_EQ(Ask({"--model", "dla34"}, 1, "NOT_SERVING\n"), "");
  EXPECT_THAT(Ask({"--model", "dla60"}, 1, ""), HasSubstr("serves no model \"dla60\""));
}

TEST_F(ClientHealthTest, AServerThatDoesNotAnswerInTimeIsNotWell) {
  health_.slow = true;
  EXPECT_THAT(Ask({"--timeout", "0.2"}, 1, ""), HasSubstr("no server is available"));
  health_.answer.count_down();
}

TEST_F(ClientHealthTest, WithoutAServerItSaysSo) {
  server_->Shutdown();
  EXPECT_THAT(Ask({}, 1, ""), HasSubstr("start one with `dla-server`"));
}

TEST_F(ClientHealthTest, ATimeoutThatIsNoneIsWrongUsage) {
  EXPECT_THAT(Ask({"--timeout", "soon"}, 2, ""), HasSubstr("\"soon\""));
}

}  // namespace
}  // namespace dla::testing
