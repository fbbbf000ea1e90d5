// Messages of dla.v1: the model that they name and the options, and the words of a refusal on their
// way back.
#include "server/classify_request.h"

#include <memory>

#include "server/grpc_status.h"
#include "tests/fuzz/check.h"
#include "tests/support/fake_model.h"

namespace dla::server {
namespace {

constexpr int kClasses = 4;

// Lives until the process ends, for its replica is a thread.
const ModelRegistry& Registry() {
  static const ModelRegistry& registry = [] {
    static auto& metrics = *new Metrics();
    static auto& models = *new ModelRegistry();
    const auto model = [](const char* version) {
      return std::make_shared<ServedModel>("flowers", version,
                                           std::make_unique<FakeModel>(kClasses),
                                           ServedModel::Options(), metrics, Clock::Real());
    };
    models.Set("flowers", {model("1"), model("2")}, {{"stable", "1"}});
    return std::ref(models);
  }();
  return registry;
}

template <typename Request>
int Try(const uint8_t* data, size_t size) {
  Request request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return -1;
  const absl::StatusOr<Target> target = ResolveTarget(Registry(), request, /*client=*/1);
  if (target.ok()) {
    FUZZ_CHECK(target->options.top_k >= 1 && target->options.top_k <= kClasses);
    return 0;
  }
  fuzz::CheckRefusal(target.status(), target.status().code() == absl::StatusCode::kNotFound
                                          ? absl::StatusCode::kNotFound
                                          : absl::StatusCode::kInvalidArgument);
  google::rpc::Status answer;
  FUZZ_CHECK(answer.ParseFromString(ToRpcStatus(target.status()).SerializeAsString()));
  return 0;
}

}  // namespace
}  // namespace dla::server

// The first byte chooses the message, the rest is its wire format.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return -1;
  return data[0] % 2 == 0 ? dla::server::Try<dla::v1::ClassifyRequest>(data + 1, size - 1)
                          : dla::server::Try<dla::v1::ClassifyBatchRequest>(data + 1, size - 1);
}
