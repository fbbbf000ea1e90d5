// Messages of the Open Inference Protocol: what passes points into the message, and at as much as
// the shapes say.
#include "server/infer_request.h"

#include "tests/fuzz/check.h"

namespace {

struct CheckPhoto {
  void operator()(const dla::server::EncodedPhoto& photo) const { Touch(photo.bytes); }
  void operator()(const dla::server::RawPhoto& photo) const {
    FUZZ_CHECK(photo.height >= 1 && photo.width >= 1);
    FUZZ_CHECK(photo.pixels.size() == size_t{3} * photo.height * photo.width);
    Touch(photo.pixels);
  }
  void operator()(const dla::server::NormalizedPhoto& photo) const {
    FUZZ_CHECK(photo.values.size() == 3 * 2 * 2 * sizeof(float));
    Touch(photo.values);
  }

  static void Touch(absl::string_view bytes) {
    if (bytes.empty()) return;
    const volatile char* read = bytes.data();
    (void)read[0];
    (void)read[bytes.size() - 1];
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  inference::ModelInferRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return -1;
  static const dla::ModelInfo model = [] {
    dla::ModelInfo info;
    info.num_classes = 5;
    info.embedding_size = 2;
    info.input.height = info.input.width = 2;
    return info;
  }();
  static const dla::server::SharedMemoryRegions no_regions;
  for (const auto* regions : {&no_regions, static_cast<decltype(&no_regions)>(nullptr)}) {
    const auto task =
        dla::server::ParseInferRequest(request, model, /*max_pixels=*/1 << 12, regions);
    if (!task.ok()) {
      FUZZ_CHECK(!task.status().message().empty() && task.status().message().size() < 4096);
      continue;
    }
    FUZZ_CHECK(!task->photos.empty() && task->photos.size() <= dla::server::kMaxInferPhotos);
    FUZZ_CHECK(task->options.top_k >= 0 && task->options.top_k <= model.num_classes);
    for (const dla::server::PhotoSource& photo : task->photos) std::visit(CheckPhoto(), photo);
  }
  return 0;
}
