#include "model/quantize_at_load.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "model/checkpoint.h"
#include "model/graph_network.h"
#include "model/image.h"
#include "model/libtorch_errors.h"
#include "model/parallel_for.h"
#include "model/photo_agreement.h"
#include "model/preprocess.h"
#include "model/quantizer.h"
#include "model/status_macros.h"

namespace dla {
namespace {

constexpr double kLeastCosine = 0.995;
constexpr int64_t kChunk = 1;  // photos that a thread runs at a time

std::string Remedy(const std::string& folder) {
  return absl::StrCat("; make an int8 folder once, which then serves as it is: dla-quantize ",
                      folder, " --images PHOTOS --out ", folder, "-int8");
}

absl::StatusOr<BatchOutput> Answers(const ModelFiles& files, const Quantization* quantization,
                                    absl::Span<const PhotoInput> photos, int threads) {
  BatchOutput output;
  const size_t classes = files.layout.num_classes;
  const size_t features = files.layout.embedding_size;
  output.logits.resize(photos.size() * classes);
  output.embeddings.resize(photos.size() * features);
  try {
    auto source = [&](const std::string& name) { return ToFloats(*files.checkpoint.Find(name)); };
    const GraphNetwork network(files.layout, source, files.config.input, quantization);
    const int64_t chunks = (static_cast<int64_t>(photos.size()) + kChunk - 1) / kChunk;
    ParallelFor(chunks, threads, [&](int64_t i) {
      const size_t begin = i * kChunk;
      network.Run(photos.subspan(begin, kChunk), output.logits.data() + begin * classes,
                  output.embeddings.data() + begin * features);
    });
    return output;
  } catch (const std::exception&) {
    return StatusOfException(absl::StrCat("running ", files.layout.architecture));
  }
}

}  // namespace

absl::StatusOr<Quantization> QuantizeAtLoad(const ModelFiles& files, const std::string& folder,
                                            const LoadOptions& options) {
  if (!options.calibration_photos) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, " is a float model, and there are no photos to calibrate int8 on", Remedy(folder)));
  }
  DLA_ASSIGN_OR_RETURN(const std::vector<std::string> encoded, options.calibration_photos());
  if (encoded.size() < kFewestCalibrationPhotos) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, " is a float model with ", encoded.size(),
                     " photos to calibrate int8 on, and ", kFewestCalibrationPhotos,
                     " are needed (in its folder calibration/, or its selftest/)", Remedy(folder)));
  }
  const int threads = options.calibration_threads;
  std::vector<Image> images;
  for (const std::string& bytes : encoded) {
    absl::StatusOr<Image> image = LoadImage(bytes, files.config.input, {});
    if (!image.ok()) {
      return absl::Status(image.status().code(),
                          absl::StrCat(folder, ": calibration photo ", images.size() + 1, ": ",
                                       image.status().message()));
    }
    images.push_back(*std::move(image));
  }
  std::vector<PhotoInput> photos;
  for (const Image& image : images) photos.emplace_back(image.pixels.data());
  DLA_ASSIGN_OR_RETURN(QuantizedModel model,
                       QuantizeModel(files, photos, {.threads = threads, .scan_photos = 8}));
  DLA_ASSIGN_OR_RETURN(const BatchOutput exact, Answers(files, nullptr, photos, threads));
  DLA_ASSIGN_OR_RETURN(const BatchOutput int8,
                       Answers(files, &model.quantization, photos, threads));
  const Agreement agreement = CompareAnswers(exact, int8, static_cast<int64_t>(photos.size()), {});
  if (agreement.mean_cosine < kLeastCosine) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s is not the same network in int8: the cosine of its embeddings with those in float32 is "
        "%.4f in the mean of %d photos, under %g%s",
        folder, agreement.mean_cosine, agreement.photos, kLeastCosine, Remedy(folder)));
  }
  return std::move(model.quantization);
}

}  // namespace dla
