// Pixels instead of photos, in the requests or in shared memory.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/serving/load_target_grpc.h"
#include "grpcpp/grpcpp.h"
#include "inference/grpc_service.grpc.pb.h"

namespace dla::bench {
namespace {

// Requests that differ, so that no cache answers. Containers often have but 64 MiB of shared
// memory.
constexpr int kRequests = 8;

absl::StatusOr<Answer> ParseIndices(grpc::ByteBuffer& buffer, int photos) {
  inference::ModelInferResponse response;
  if (auto status = FromBuffer(buffer, response); !status.ok()) return status;
  const size_t bytes = sizeof(int32_t) * photos * kTopK;
  if (response.raw_output_contents_size() != 1 || response.raw_output_contents(0).size() != bytes) {
    return absl::InternalError(
        absl::StrCat("the answer does not hold ", kTopK, " indices for each photo"));
  }
  Answer answer(kTopK);
  for (int i = 0; i < kTopK; ++i) {
    int32_t index = 0;
    std::memcpy(&index, response.raw_output_contents(0).data() + sizeof index * i, sizeof index);
    answer[i].index = index;
  }
  return answer;
}

// A POSIX shared memory object, gone with this object.
class SharedMemory {
 public:
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Make(const std::string& bytes) {
    auto memory = std::unique_ptr<SharedMemory>(new SharedMemory);
    const int fd = shm_open(memory->key_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd < 0) return Error("shm_open");
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t written = write(fd, bytes.data() + done, bytes.size() - done);
      if (written <= 0) break;
      done += static_cast<size_t>(written);
    }
    const absl::Status status = done < bytes.size() ? Error("write") : absl::OkStatus();
    close(fd);
    if (!status.ok()) return status;
    return memory;
  }

  ~SharedMemory() { shm_unlink(key_.c_str()); }

  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  const std::string& key() const { return key_; }

 private:
  SharedMemory() : key_(absl::StrCat("/dla_load_", getpid())) {}

  static absl::Status Error(const char* call) {
    return absl::InternalError(absl::StrCat("shared memory: ", call, ": ", std::strerror(errno)));
  }

  const std::string key_;
};

// Keeps the memory for as long as requests name it.
class TargetWithMemory final : public LoadTarget {
 public:
  TargetWithMemory(std::unique_ptr<SharedMemory> memory, std::unique_ptr<LoadTarget> target)
      : memory_(std::move(memory)), target_(std::move(target)) {}

  void Send(size_t photo, Done done) override { target_->Send(photo, std::move(done)); }

 private:
  const std::unique_ptr<SharedMemory> memory_;
  const std::unique_ptr<LoadTarget> target_;
};

absl::Status Register(const std::string& address, const std::string& key, uint64_t bytes) {
  const auto stub = inference::GRPCInferenceService::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(kRequestTimeoutS));
  inference::SystemSharedMemoryRegisterRequest request;
  request.set_name(key);
  request.set_key(key);
  request.set_byte_size(bytes);
  inference::SystemSharedMemoryRegisterResponse response;
  const grpc::Status status = stub->SystemSharedMemoryRegister(&context, request, &response);
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

std::string Noise(size_t bytes) {
  std::minstd_rand random(1);
  std::string noise(bytes, '\0');
  std::generate(noise.begin(), noise.end(), [&] { return static_cast<char>(random() >> 8); });
  return noise;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadTarget>> MakePixelsTarget(const std::string& address,
                                                             const std::string& model,
                                                             const PixelsOptions& options) {
  const size_t request_bytes = size_t{3} * options.side * options.side * options.photos_per_request;
  const std::string pixels = Noise(request_bytes * kRequests);
  std::unique_ptr<SharedMemory> memory;
  if (options.shared_memory) {
    auto made = SharedMemory::Make(pixels);
    if (!made.ok()) return made.status();
    memory = *std::move(made);
    const absl::Status registered = Register(address, memory->key(), pixels.size());
    if (!registered.ok()) return registered;
  }
  std::vector<grpc::ByteBuffer> requests;
  for (int i = 0; i < kRequests; ++i) {
    inference::ModelInferRequest request;
    request.set_model_name(model);
    auto* input = request.add_inputs();
    input->set_name("pixels");
    input->set_datatype("UINT8");
    for (int size : {options.photos_per_request, options.side, options.side, 3}) {
      input->add_shape(size);
    }
    const size_t offset = i * request_bytes;
    if (memory != nullptr) {
      auto& parameters = *input->mutable_parameters();
      parameters["shared_memory_region"].set_string_param(memory->key());
      parameters["shared_memory_byte_size"].set_int64_param(static_cast<int64_t>(request_bytes));
      parameters["shared_memory_offset"].set_int64_param(static_cast<int64_t>(offset));
    } else {
      request.add_raw_input_contents(pixels.substr(offset, request_bytes));
    }
    request.add_outputs()->set_name("indices");
    (*request.mutable_parameters())["top_k"].set_int64_param(kTopK);
    requests.push_back(ToBuffer(request));
  }
  auto target =
      MakeGrpcTarget({.address = address,
                      .method = "/inference.GRPCInferenceService/ModelInfer",
                      .parse = [photos = options.photos_per_request](
                                   grpc::ByteBuffer& reply) { return ParseIndices(reply, photos); },
                      .connections = options.connections},
                     requests);
  if (memory == nullptr) return target;
  return std::make_unique<TargetWithMemory>(std::move(memory), std::move(target));
}

}  // namespace dla::bench
