#include "benchmarks/micro/load.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "dla/v1/classifier.pb.h"

namespace dla::bench {
namespace {

constexpr char kFlag[] = "--load";

// Calls in a closed loop: each answer brings the next call.
class Load {
 public:
  Load(const std::string& address, int in_flight, int image_bytes)
      : stub_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())),
        running_(in_flight) {
    v1::ClassifyRequest request;
    request.set_image(std::string(image_bytes, 'x'));
    const grpc::Slice slice(request.SerializeAsString());
    for (int i = 0; i < in_flight; ++i) {
      calls_.push_back(std::make_unique<Call>());
      calls_.back()->request = grpc::ByteBuffer(&slice, 1);
    }
    for (auto& call : calls_) Start(*call);
  }

  ~Load() {
    stopping_ = true;
    while (running_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

  long answered() const { return answered_; }
  long failed() const { return failed_; }

 private:
  struct Call {
    std::unique_ptr<grpc::ClientContext> context;
    grpc::ByteBuffer request, response;
  };

  void Start(Call& call) {
    call.context = std::make_unique<grpc::ClientContext>();
    stub_.UnaryCall(call.context.get(), "/dla.v1.Classifier/Classify", {}, &call.request,
                    &call.response, [this, &call](const grpc::Status& status) {
                      ++(status.ok() ? answered_ : failed_);
                      if (stopping_ || !status.ok()) {
                        --running_;
                      } else {
                        Start(call);
                      }
                    });
  }

  grpc::GenericStub stub_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::atomic<long> answered_ = 0, failed_ = 0;
  std::atomic<int> running_;
  std::atomic<bool> stopping_ = false;
};

}  // namespace

FILE* StartLoad(const std::string& address, int in_flight, double seconds, int image_bytes) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  return popen(absl::StrCat("exec '", self, "' ", kFlag, " ", address, " ", in_flight, " ", seconds,
                            " ", image_bytes)
                   .c_str(),
               "r");
}

int RunLoadIfAsked(int argc, char** argv) {
  if (argc != 6 || std::strcmp(argv[1], kFlag) != 0) return -1;
  Load load(argv[2], std::atoi(argv[3]), std::atoi(argv[5]));
  std::this_thread::sleep_for(std::chrono::seconds(1));
  std::puts("begin");
  std::fflush(stdout);
  const long answered = load.answered();
  const auto begin = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(std::atof(argv[4])));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const long counted = load.answered() - answered;
  absl::PrintF("end %d %d %f\n", counted, load.failed(), took.count());
  std::fflush(stdout);
  return 0;
}

}  // namespace dla::bench
