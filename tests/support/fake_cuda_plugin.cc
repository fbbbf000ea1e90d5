// A libdla_cuda.so for machines without a card: two of them, which compute on the processor. The
// environment says what is wrong with them:
//   DLA_FAKE_CARDS=N          so many cards
//   DLA_FAKE_LARGEST_STEP=N   larger batches do not fit their memory
//   DLA_FAKE_LOST=PREFIX      card I is lost once the file PREFIX<I> exists
//   DLA_FAKE_NO_CARDS=TEXT    there is none, with this reason
//   DLA_FAKE_VERSION=TEXT     it is of another version than the program
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "model/cpu/cpu_network.h"
#include "model/gpu/plugin.h"
#include "tests/support/fake_gpu.h"

namespace dla::testing {
namespace {

std::string Setting(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

FakeCompute ComputeOnProcessor(const NetworkLayout& layout, TensorSource source,
                               const InputSpec& input) {
  const cpu::KernelSet* const kernels = cpu::FindKernels(cpu::Element::kFloat32);
  if (kernels == nullptr) return FirstByteCompute(layout.num_classes, layout.embedding_size);
  auto network = std::make_shared<const cpu::CpuNetwork>(layout, source, input, *kernels);
  return [network](absl::Span<const PhotoInput> photos, float* logits, float* embeddings) {
    network->Run(photos, logits, embeddings);
  };
}

gpu::Runtime* MakeRuntime() {
  const int cards = std::stoi(Setting("DLA_FAKE_CARDS", "2"));
  auto* const runtime = new FakeRuntime(cards, ComputeOnProcessor);
  for (int i = 0; i < cards; ++i) {
    FakeCard& card = runtime->card(i);
    card.largest_step = std::stoi(Setting("DLA_FAKE_LARGEST_STEP", "1000000"));
    const std::string lost = Setting("DLA_FAKE_LOST", "");
    if (lost.empty()) continue;
    card.on_wait = [&card, file = absl::StrCat(lost, i)] {
      if (std::filesystem::exists(file)) card.lost = true;
    };
  }
  return runtime;
}

}  // namespace
}  // namespace dla::testing

extern "C" __attribute__((visibility("default"))) dla::gpu::Runtime* dla_gpu_runtime(
    const char* version, absl::Status* why) {
  using dla::testing::Setting;
  const std::string none = Setting("DLA_FAKE_NO_CARDS", "");
  const std::string mine = Setting("DLA_FAKE_VERSION", version);
  if (!none.empty()) {
    *why = absl::FailedPreconditionError(none);
  } else if (mine != version) {
    *why = absl::FailedPreconditionError(absl::StrCat("of version ", mine, ", not ", version));
  } else {
    return dla::testing::MakeRuntime();
  }
  return nullptr;
}
