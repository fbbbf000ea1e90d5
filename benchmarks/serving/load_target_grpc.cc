#include "benchmarks/serving/load_target_grpc.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "dla/v1/classifier.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "inference/grpc_service.pb.h"

namespace dla::bench {

grpc::ByteBuffer ToBuffer(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

absl::Status FromBuffer(grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message) {
  grpc::ProtoBufferReader reader(&buffer);
  return message.ParseFromZeroCopyStream(&reader)
             ? absl::OkStatus()
             : absl::InternalError("the answer is not the message that it should be");
}

namespace {

absl::StatusOr<Answer> ParseDlaAnswer(grpc::ByteBuffer& buffer) {
  v1::ClassifyResponse response;
  if (auto status = FromBuffer(buffer, response); !status.ok()) return status;
  Answer answer;
  for (const v1::Class& c : response.classes()) {
    answer.push_back({static_cast<int>(c.index()), c.label(), c.probability()});
  }
  return answer;
}

absl::StatusOr<Answer> ParseKserveAnswer(grpc::ByteBuffer& buffer) {
  inference::ModelInferResponse response;
  if (auto status = FromBuffer(buffer, response); !status.ok()) return status;
  if (response.raw_output_contents_size() != 1) {
    return absl::InternalError(
        absl::StrCat(response.raw_output_contents_size(), " outputs instead of 1"));
  }
  absl::string_view rest = response.raw_output_contents(0);
  Answer answer;
  while (!rest.empty()) {
    uint32_t length = 0;
    if (rest.size() < sizeof length) return absl::InternalError("a BYTES element is cut off");
    std::memcpy(&length, rest.data(), sizeof length);
    rest.remove_prefix(sizeof length);
    if (rest.size() < length) return absl::InternalError("a BYTES element is cut off");
    const std::vector<std::string> parts =
        absl::StrSplit(rest.substr(0, length), absl::MaxSplits(':', 2));
    rest.remove_prefix(length);
    Candidate candidate;
    if (parts.size() != 3 || !absl::SimpleAtod(parts[0], &candidate.probability) ||
        !absl::SimpleAtoi(parts[1], &candidate.index)) {
      return absl::InternalError("an element is not \"probability:index:label\"");
    }
    candidate.label = parts[2];
    answer.push_back(std::move(candidate));
  }
  return answer;
}

// One channel and one thread, which sends again what `done` asks for: all that a generator which
// shares its cores with the server should cost.
class GrpcTarget final : public LoadTarget {
 public:
  GrpcTarget(const GrpcTargetOptions& options, const std::vector<grpc::ByteBuffer>& requests)
      : method_(options.method),
        client_(options.client),
        requests_(requests),
        parse_(options.parse),
        stub_(Connect(options.address)),
        thread_([this] { Receive(); }) {}

  ~GrpcTarget() override {
    queue_.Shutdown();
    thread_.join();
  }

  void Send(size_t photo, Done done) override {
    auto* call = new Call{.done = std::move(done)};
    call->context.set_deadline(std::chrono::system_clock::now() +
                               std::chrono::seconds(kRequestTimeoutS));
    if (!client_.empty()) call->context.AddMetadata("client-id", client_);
    call->reader = stub_.PrepareUnaryCall(&call->context, method_,
                                          requests_[photo % requests_.size()], &queue_);
    call->reader->StartCall();
    call->reader->Finish(&call->reply, &call->status, call);
  }

 private:
  struct Call {
    Done done;
    grpc::ClientContext context = {};
    grpc::ByteBuffer reply = {};
    grpc::Status status = {};
    std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader = nullptr;
  };

  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }

  void Receive() {
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
      const std::unique_ptr<Call> call(static_cast<Call*>(tag));
      if (!call->status.ok()) {
        call->done(absl::Status(static_cast<absl::StatusCode>(call->status.error_code()),
                                call->status.error_message()));
      } else {
        call->done(parse_(call->reply));
      }
    }
  }

  const std::string method_;
  const std::string client_;
  const std::vector<grpc::ByteBuffer> requests_;
  const std::function<absl::StatusOr<Answer>(grpc::ByteBuffer&)> parse_;
  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
  std::thread thread_;
};

// Several connections.
class ManyTargets final : public LoadTarget {
 public:
  explicit ManyTargets(std::vector<std::unique_ptr<LoadTarget>> targets)
      : targets_(std::move(targets)) {}

  void Send(size_t photo, Done done) override {
    targets_[next_++ % targets_.size()]->Send(photo, std::move(done));
  }

 private:
  std::atomic<size_t> next_ = 0;
  const std::vector<std::unique_ptr<LoadTarget>> targets_;
};

}  // namespace

std::unique_ptr<LoadTarget> MakeGrpcTarget(const GrpcTargetOptions& options,
                                           const std::vector<grpc::ByteBuffer>& requests) {
  std::vector<std::unique_ptr<LoadTarget>> targets;
  for (int i = 0; i < options.connections; ++i) {
    targets.push_back(std::make_unique<GrpcTarget>(options, requests));
  }
  if (targets.size() == 1) return std::move(targets.front());
  return std::make_unique<ManyTargets>(std::move(targets));
}

std::unique_ptr<LoadTarget> MakeDlaTarget(const std::string& address, const std::string& model,
                                          const std::vector<std::string>& photos,
                                          const DlaRequestOptions& options) {
  std::vector<grpc::ByteBuffer> requests;
  for (const std::string& photo : photos) {
    v1::ClassifyRequest request;
    if (options.bulk) request.set_priority(v1::PRIORITY_BULK);
    request.set_model(model);
    request.set_image(photo);
    request.set_top_k(kTopK);
    requests.push_back(ToBuffer(request));
  }
  return MakeGrpcTarget({.address = address,
                         .method = "/dla.v1.Classifier/Classify",
                         .parse = ParseDlaAnswer,
                         .client = options.client,
                         .connections = options.connections},
                        requests);
}

std::unique_ptr<LoadTarget> MakeKserveTarget(const std::string& address, const std::string& model,
                                             const std::vector<std::string>& photos) {
  std::vector<grpc::ByteBuffer> requests;
  for (const std::string& photo : photos) {
    inference::ModelInferRequest request;
    request.set_model_name(model);
    auto* input = request.add_inputs();
    input->set_name("IMAGE");
    input->set_datatype("BYTES");
    input->add_shape(1);  // the batch that the server fills with other requests
    input->add_shape(1);
    request.add_outputs()->set_name("TOP");
    const auto length = static_cast<uint32_t>(photo.size());
    std::string* raw = request.add_raw_input_contents();
    raw->assign(reinterpret_cast<const char*>(&length), sizeof length);
    raw->append(photo);
    requests.push_back(ToBuffer(request));
  }
  return MakeGrpcTarget({.address = address,
                         .method = "/inference.GRPCInferenceService/ModelInfer",
                         .parse = ParseKserveAnswer},
                        requests);
}

}  // namespace dla::bench
