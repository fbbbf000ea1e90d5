// Who may call, over what, and how much of it: the whole server in this process on a fake model.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <future>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "dla/v1/classifier.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "httplib.h"
#include "inference/grpc_service.grpc.pb.h"
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
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kInferToken[] = "infer-token";
constexpr char kAdminToken[] = "admin-token";

class SecurityTest : public ::testing::Test {
 protected:
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
    channel_ = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
  }

  ServerConfig WithTokens() {
    ServerConfig config;
    config.token_file = WriteTokens(kInferToken, kAdminToken);
    return config;
  }
  std::string WriteTokens(const std::string& infer, const std::string& admin) {
    return folder_.Write("tokens", absl::StrCat("alice infer ", HashToken(infer), "\nops admin ",
                                                HashToken(admin), "\n"));
  }

  ServerConfig WithTls(const CertificateAndKey& pair) {
    ServerConfig config;
    config.tls_certificate = folder_.Write("cert.pem", pair.certificate);
    config.tls_key = folder_.Write("key.pem", pair.key);
    return config;
  }

  // A channel of its own, so that there is a new handshake.
  std::shared_ptr<grpc::Channel> TlsChannel(const grpc::SslCredentialsOptions& options) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(server_->grpc_address(), grpc::SslCredentials(options),
                                     arguments);
  }

  // The name in the certificate that the server shows; the error if there is no connection.
  std::string ServerName(const grpc::SslCredentialsOptions& options) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(TlsChannel(options))->Check(&context, {}, &response);
    if (!status.ok()) return status.error_message();
    const auto names = context.auth_context()->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME);
    return names.empty() ? "" : std::string(names[0].data(), names[0].size());
  }

  grpc::Status ListModels(const std::string& token,
                          std::shared_ptr<grpc::Channel> channel = nullptr) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    v1::ListModelsResponse response;
    return v1::Classifier::NewStub(channel == nullptr ? channel_ : channel)
        ->ListModels(&context, {}, &response);
  }

  // An empty message to any method.
  grpc::Status Call(const std::string& path, const std::string& authorization) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    grpc::GenericStub stub(channel_);
    const grpc::Slice nothing;
    const grpc::ByteBuffer request(&nothing, 1);
    grpc::ByteBuffer response;
    std::promise<grpc::Status> promise;
    stub.UnaryCall(&context, path, {}, &request, &response,
                   [&promise](grpc::Status status) { promise.set_value(std::move(status)); });
    return promise.get_future().get();
  }

  static std::vector<std::string> AllMethods() {
    std::vector<std::string> paths;
    for (const char* name : {"dla.v1.Classifier", "inference.GRPCInferenceService"}) {
      const auto* service =
          google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
      for (int i = 0; i < service->method_count(); ++i) {
        paths.push_back(absl::StrCat("/", name, "/", service->method(i)->name()));
      }
    }
    return paths;
  }

  dla::testing::TempDir folder_;
  FakeClock clock_;
  FakeModel* fake_ = nullptr;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

bool Ends(const std::string& path, const std::set<std::string>& names) {
  return names.count(path.substr(path.rfind('/') + 1)) > 0;
}

const std::set<std::string>& OpenMethods() {
  static const std::set<std::string> names = {"ServerLive", "ServerReady"};
  return names;
}

const std::set<std::string>& AdminMethods() {
  static const std::set<std::string> names = {"RepositoryModelLoad",
                                              "RepositoryModelUnload",
                                              "SystemSharedMemoryStatus",
                                              "SystemSharedMemoryRegister",
                                              "SystemSharedMemoryUnregister",
                                              "CudaSharedMemoryStatus",
                                              "CudaSharedMemoryRegister",
                                              "CudaSharedMemoryUnregister",
                                              "TraceSetting",
                                              "LogSettings"};
  return names;
}

TEST_F(SecurityTest, NoMethodButTheServersOwnHealthAnswersWithoutAGoodToken) {
  Start(WithTokens());
  for (const std::string& path : AllMethods()) {
    for (const char* authorization :
         {"", "Bearer ", "Bearer wrong", "Basic aW5mZXI6", "infer-token"}) {
      const grpc::Status status = Call(path, authorization);
      if (Ends(path, OpenMethods())) {
        EXPECT_TRUE(status.ok()) << path << ": " << status.error_message();
      } else {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED)
            << path << " with \"" << authorization << "\": " << status.error_message();
        EXPECT_THAT(status.error_message(),
                    AllOf(HasSubstr("authorization: Bearer TOKEN"), Not(HasSubstr("infer-token"))));
      }
    }
  }
}

TEST_F(SecurityTest, InferTokensMayAllButControlAndAdminTokensMayAll) {
  Start(WithTokens());
  for (const std::string& path : AllMethods()) {
    const grpc::Status as_infer = Call(path, absl::StrCat("Bearer ", kInferToken));
    if (Ends(path, AdminMethods())) {
      EXPECT_EQ(as_infer.error_code(), grpc::StatusCode::PERMISSION_DENIED) << path;
      EXPECT_THAT(as_infer.error_message(), HasSubstr("the scope admin"));
    } else {
      EXPECT_THAT(as_infer.error_code(), AllOf(Not(grpc::StatusCode::PERMISSION_DENIED),
                                               Not(grpc::StatusCode::UNAUTHENTICATED)))
          << path;
    }
    EXPECT_THAT(
        Call(path, absl::StrCat("bearer ", kAdminToken)).error_code(),
        AllOf(Not(grpc::StatusCode::PERMISSION_DENIED), Not(grpc::StatusCode::UNAUTHENTICATED)))
        << path;
  }
}

TEST_F(SecurityTest, HealthIsOpenAndPhotosAreAnsweredWithAToken) {
  Start(WithTokens());
  grpc::ClientContext health;
  grpc::health::v1::HealthCheckResponse healthy;
  EXPECT_TRUE(grpc::health::v1::Health::NewStub(channel_)->Check(&health, {}, &healthy).ok());

  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kInferToken));
  v1::ClassifyRequest request;
  request.set_image("\x02");
  v1::ClassifyResponse response;
  ASSERT_TRUE(v1::Classifier::NewStub(channel_)->Classify(&context, request, &response).ok());
  EXPECT_EQ(response.classes(0).index(), 2u);
}

TEST_F(SecurityTest, TellsNobodyItsServicesWhenReflectionIsOff) {
  const std::string path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  Start();
  EXPECT_NE(Call(path, "").error_code(), grpc::StatusCode::UNIMPLEMENTED);
  server_.reset();
  ServerConfig config;
  config.reflection = false;
  Start(config);
  EXPECT_EQ(Call(path, "").error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(SecurityTest, RefusesACallWithTwoAuthorizations) {
  Start(WithTokens());
  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kInferToken));
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kAdminToken));
  v1::ListModelsResponse response;
  const grpc::Status status =
      v1::Classifier::NewStub(channel_)->ListModels(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(SecurityTest, CountsRefusedCallsByTheirCode) {
  Start(WithTokens());
  Call("/dla.v1.Classifier/Classify", "");
  Call("/dla.v1.Classifier/ClassifyStream", "Bearer wrong");
  const HostPort where = SplitAddress(server_->metrics_address());
  const auto metrics = httplib::Client(where.host, where.port).Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_THAT(metrics->body, HasSubstr("code=\"UNAUTHENTICATED\",method=\"Classify\""));
  EXPECT_THAT(metrics->body, HasSubstr("code=\"UNAUTHENTICATED\",method=\"ClassifyStream\""));
}

TEST_F(SecurityTest, NewTokensCountAndOldOnesDoNotOnceTheFileIsReadAgain) {
  Start(WithTokens());
  EXPECT_TRUE(ListModels(kInferToken).ok());
  WriteTokens("new-token", kAdminToken);
  EXPECT_TRUE(ListModels(kInferToken).ok()) << "nobody has asked to read it again";
  server_->ReloadCredentials();
  EXPECT_TRUE(ListModels("new-token").ok());
  EXPECT_EQ(ListModels(kInferToken).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  folder_.Write("tokens", "half a li");
  server_->ReloadCredentials();
  EXPECT_TRUE(ListModels("new-token").ok()) << "a wrong file leaves the old tokens";
}

TEST_F(SecurityTest, LooksAtTheFilesFromTimeToTime) {
  ServerConfig config = WithTokens();
  config.credentials_poll_s = 5;
  Start(config);
  WriteTokens("new-token", kAdminToken);
  while (!ListModels("new-token").ok()) clock_.Advance(std::chrono::seconds(5));
}

TEST_F(SecurityTest, DoesNotStartWithAWrongTokenFile) {
  ServerConfig config;
  config.token_file = folder_.Write("tokens", "alice infer hunter2\n");
  config.grpc_address = config.http_address = config.metrics_address = "127.0.0.1:0";
  const auto server = Server::Start(config, {.decode = FakeDecode, .clock = clock_});
  EXPECT_THAT(std::string(server.status().message()),
              AllOf(HasSubstr("tokens:1: "), Not(HasSubstr("hunter2"))));
}

TEST_F(SecurityTest, ServesOverTlsAndNotInPlaintext) {
  const CertificateAuthority authority("authority");
  Start(WithTls(authority.Issue("server one")));
  EXPECT_EQ(ServerName({.pem_root_certs = authority.certificate()}), "server one");
  EXPECT_FALSE(ListModels("").ok());
  const CertificateAuthority other("other");
  EXPECT_NE(ServerName({.pem_root_certs = other.certificate()}), "server one");
}

TEST_F(SecurityTest, ShowsARenewedCertificateToNewConnectionsAndKeepsTheOpenOnes) {
  const CertificateAuthority authority("authority");
  Start(WithTls(authority.Issue("server one")));
  const grpc::SslCredentialsOptions options = {.pem_root_certs = authority.certificate()};
  const auto open = TlsChannel(options);
  EXPECT_TRUE(ListModels("", open).ok());

  WithTls(authority.Issue("server two"));  // writes the files
  EXPECT_EQ(ServerName(options), "server one") << "nobody has asked to read them again";
  server_->ReloadCredentials();
  EXPECT_EQ(ServerName(options), "server two");
  EXPECT_TRUE(ListModels("", open).ok());

  // A key that is not the certificate's leaves both as they were.
  folder_.Write("key.pem", authority.Issue("other").key);
  server_->ReloadCredentials();
  EXPECT_EQ(ServerName(options), "server two");
  folder_.Write("cert.pem", "half a certif");
  server_->ReloadCredentials();
  EXPECT_EQ(ServerName(options), "server two");

  WithTls(authority.Issue("server three"));
  while (ServerName(options) != "server three") clock_.Advance(std::chrono::seconds(10));
}

TEST_F(SecurityTest, MutualTlsLetsInOnlyWhomTheAuthorityOfTheMomentHasSigned) {
  const CertificateAuthority authority("authority");
  const CertificateAuthority callers("callers");
  const CertificateAuthority strangers("strangers");
  ServerConfig config = WithTls(authority.Issue("server"));
  config.tls_client_ca = folder_.Write("ca.pem", callers.certificate());
  Start(config);
  const auto name_for = [&](const CertificateAndKey& pair) {
    return ServerName({.pem_root_certs = authority.certificate(),
                       .pem_private_key = pair.key,
                       .pem_cert_chain = pair.certificate});
  };
  EXPECT_EQ(name_for(callers.Issue("alice")), "server");
  EXPECT_NE(name_for({}), "server") << "no certificate";
  EXPECT_NE(name_for(strangers.Issue("alice")), "server");

  folder_.Write("ca.pem", strangers.certificate());
  server_->ReloadCredentials();
  EXPECT_EQ(name_for(strangers.Issue("alice")), "server");
  EXPECT_NE(name_for(callers.Issue("alice")), "server");
}

// Whether a client that speaks at most this version of TLS gets a connection.
bool Handshakes(const std::string& address, int version) {
  const TcpConnection connection(address);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0");  // else the client itself refuses TLS 1.1
  SSL_CTX_set_max_proto_version(context, version);
  SSL* ssl = SSL_new(context);
  const unsigned char http2[] = "\x02h2";
  SSL_set_alpn_protos(ssl, http2, 3);
  SSL_set_fd(ssl, connection.socket());
  const bool connected = SSL_connect(ssl) == 1;
  SSL_free(ssl);
  SSL_CTX_free(context);
  return connected;
}

TEST_F(SecurityTest, RefusesTlsOlderThan12) {
  const CertificateAuthority authority("authority");
  Start(WithTls(authority.Issue("server")));
  EXPECT_FALSE(Handshakes(server_->grpc_address(), TLS1_1_VERSION));
  EXPECT_TRUE(Handshakes(server_->grpc_address(), TLS1_2_VERSION));
  EXPECT_TRUE(Handshakes(server_->grpc_address(), TLS1_3_VERSION));
}

TEST_F(SecurityTest, HoldsCallsOfAConnectionBeyondItsStreamsBack) {
  ServerConfig config;
  config.max_concurrent_streams = 2;
  Start(config);
  fake_->Hold();
  auto stub = v1::Classifier::NewStub(channel_);
  v1::ClassifyRequest request;
  request.set_image("\x01");
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&stub, request] {
      grpc::ClientContext context;
      v1::ClassifyResponse response;
      EXPECT_TRUE(stub->Classify(&context, request, &response).ok());
    });
  }
  fake_->AwaitRuns(1);
  const HostPort where = SplitAddress(server_->metrics_address());
  const auto in_flight = [&where] {
    const auto metrics = httplib::Client(where.host, where.port).Get("/metrics");
    const size_t at = metrics->body.find("\ndla_in_flight{model=\"fake\"} ");
    return std::stoi(metrics->body.substr(at + 29));
  };
  while (in_flight() < 2) std::this_thread::yield();
  EXPECT_EQ(in_flight(), 2);
  fake_->Release();
  for (std::thread& caller : callers) caller.join();
}

TEST_F(SecurityTest, RefusesMetadataBeyondTheLimit) {
  ServerConfig config;
  config.max_metadata_bytes = 2048;
  Start(config);
  grpc::ChannelArguments own_connection;
  own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto other = grpc::CreateCustomChannel(server_->grpc_address(),
                                               grpc::InsecureChannelCredentials(), own_connection);
  EXPECT_TRUE(ListModels("", other).ok());
  for (const int bytes : {100, 4000}) {
    grpc::ClientContext context;
    context.AddMetadata("x-filler", std::string(bytes, 'x'));
    v1::ListModelsResponse response;
    const grpc::Status status =
        v1::Classifier::NewStub(channel_)->ListModels(&context, {}, &response);
    EXPECT_EQ(status.error_code(),
              bytes < 2048 ? grpc::StatusCode::OK : grpc::StatusCode::RESOURCE_EXHAUSTED)
        << bytes;
  }
  // gRPC may close that caller's connection; nobody else's.
  EXPECT_TRUE(ListModels("", other).ok());
}

TEST_F(SecurityTest, HangsUpOnCallersBeyondTheLimitOfConnectionsUntilOneEnds) {
  ServerConfig config;
  config.max_connections = 3;
  Start(config);
  {
    std::vector<std::unique_ptr<TcpConnection>> open;
    for (int i = 0; i < 3; ++i) {
      open.push_back(std::make_unique<TcpConnection>(server_->grpc_address()));
      open.back()->Send(dla::testing::kHttp2Preface);
      EXPECT_FALSE(open.back()->ReadSome().empty()) << "gRPC's own settings";
    }
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(TcpConnection(server_->grpc_address()).ReadAll(), "") << "hung up at once";
    }
  }
  // Their places are free again once the server has noticed.
  std::string answer;
  while (answer.empty()) {
    TcpConnection connection(server_->grpc_address());
    connection.Send(dla::testing::kHttp2Preface);
    answer = connection.ReadSome();
  }
}

TEST_F(SecurityTest, ManyConnectionsThatComeAndGoLeaveNothingBehind) {
  ServerConfig config;
  config.max_connections = 4;
  Start(config);
  for (int i = 0; i < 200; ++i) {
    TcpConnection connection(server_->grpc_address());
    connection.Send(i % 2 == 0 ? dla::testing::kHttp2Preface : std::string("no HTTP/2 at all"));
  }
  while (!ListModels("").ok()) std::this_thread::yield();
  EXPECT_TRUE(ListModels("").ok());
}

TEST_F(SecurityTest, HangsUpOnWhoeverDoesNotSpeakInTime) {
  ServerConfig config;
  config.handshake_timeout_s = 1;
  Start(config);
  TcpConnection silent(server_->grpc_address());
  (void)silent.ReadAll();  // gRPC's settings at most, then the end
  const CertificateAuthority authority("authority");
  server_.reset();
  config = WithTls(authority.Issue("server"));
  config.handshake_timeout_s = 1;
  Start(config);
  TcpConnection silent_tls(server_->grpc_address());
  EXPECT_EQ(silent_tls.ReadAll(), "");
}

TEST_F(SecurityTest, HangsUpOnAConnectionThatDoesNotAnswerPings) {
  ServerConfig config;
  config.keepalive_s = 1;
  Start(config);
  TcpConnection dead(server_->grpc_address());
  dead.Send(dla::testing::kHttp2Preface);
  EXPECT_THAT(dead.ReadFrames(), ::testing::Contains(dla::testing::kHttp2Ping));
}

TEST_F(SecurityTest, TellsCallersThatPingTooOftenToCalmDown) {
  Start();
  TcpConnection eager(server_->grpc_address());
  std::string pings = dla::testing::kHttp2Preface;
  for (int i = 0; i < 8; ++i) {
    pings += std::string("\0\0\x08\x06\0\0\0\0\0", 9) + std::string(8, 'p');
  }
  eager.Send(pings);
  EXPECT_THAT(eager.ReadAll(), HasSubstr("too_many_pings"));
}

TEST_F(SecurityTest, ClosesAConnectionWithoutCalls) {
  ServerConfig config;
  config.max_connection_idle_s = 1;
  Start(config);
  TcpConnection idle(server_->grpc_address());
  idle.Send(dla::testing::kHttp2Preface);
  EXPECT_THAT(idle.ReadFrames(), ::testing::Contains(dla::testing::kHttp2GoAway));
}

// Far more connections than the HTTP server has threads, all of them slow to say what they want.
TEST_F(SecurityTest, SlowCallersDoNotTakeHealthAndMetricsAway) {
  Start();
  for (const std::string& address : {server_->http_address(), server_->metrics_address()}) {
    std::vector<std::unique_ptr<TcpConnection>> slow;
    for (int i = 0; i < 100; ++i) {
      slow.push_back(std::make_unique<TcpConnection>(address));
      slow.back()->Send(i % 2 == 0 ? "GET /metrics HTTP/1.1\r\nX-Slow: " : "");
    }
    const HostPort where = SplitAddress(address);
    httplib::Client client(where.host, where.port);
    client.set_read_timeout(std::chrono::milliseconds(2500));  // half of what the slow ones have
    const bool health = address == server_->http_address();
    const auto response = client.Get(health ? "/healthz" : "/metrics");
    ASSERT_TRUE(response) << address;
    EXPECT_EQ(response->status, 200);
  }
}

TEST_F(SecurityTest, AnHttpRequestHasAnEndHoweverSlowlyItComes) {
  Start();
  TcpConnection endless(server_->http_address());
  const std::string header(1000, 'x');
  endless.Send("GET /healthz HTTP/1.1\r\n");
  // More than a request may have; the server hangs up before it has all of them.
  for (int i = 0; i < 100 && endless.Send(absl::StrCat("X-", i, ": ", header, "\r\n")); ++i) {
  }
  EXPECT_THAT(endless.ReadAll(), Not(HasSubstr("200 OK")));
}

}  // namespace
}  // namespace dla::server
