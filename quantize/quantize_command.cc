#include "quantize/quantize_command.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/interrupt.h"
#include "cli/photo_files.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"
#include "cli/text.h"
#include "model/dla_model.h"
#include "model/model_files.h"
#include "model/parallel_for.h"
#include "model/photo_agreement.h"
#include "model/preprocess.h"
#include "model/quantized_checkpoint.h"
#include "model/quantizer.h"
#include "model/safetensors_writer.h"
#include "model/self_test.h"
#include "model/status_macros.h"
#include "model/top_k.h"
#include "quantize/int8_folder.h"
#include "quantize/photo_set.h"
#include "quantize/report.h"

namespace dla::quantize {
namespace {

using nlohmann::ordered_json;

constexpr int kFewestPhotos = 32;
constexpr int64_t kChunk = 4;  // photos
constexpr size_t kSelfTestPhotos = 8;
constexpr size_t kMaxSelfTestBytes = 4 << 20;  // of one photo

void Tell(absl::string_view message) { cli::WriteError(absl::StrCat(message, "\n")); }

// One bar after the other, as the stages come.
class Bars {
 public:
  void Show(const char* stage, const char* unit, int64_t done, int64_t total) {
    if (stage != stage_) {
      Hide();
      stage_ = stage;
      bar_.emplace(total, stage, unit);
    }
    bar_->Show(done, 0);
  }

  void Hide() {
    if (bar_) bar_->Hide();
  }

 private:
  std::string stage_;
  std::optional<cli::ProgressBar> bar_;
};

absl::StatusOr<BatchOutput> Answers(const Model& model, const std::vector<PhotoInput>& photos,
                                    int threads, const char* stage, Bars& bars) {
  const ModelInfo& info = model.info();
  BatchOutput all;
  all.logits.resize(photos.size() * info.num_classes);
  all.embeddings.resize(photos.size() * info.embedding_size);
  const auto count = static_cast<int64_t>(photos.size());
  std::mutex mutex;
  int64_t done = 0;  // guarded by mutex, like the next
  absl::Status failure;
  bars.Show(stage, "images", 0, count);
  ParallelFor((count + kChunk - 1) / kChunk, threads, [&](int64_t chunk) {
    model.PrepareThread(1);
    const int64_t begin = chunk * kChunk;
    const auto some = absl::MakeConstSpan(photos).subspan(begin, kChunk);
    BatchOutput output;
    const absl::Status status = model.Run(some, output);
    const std::lock_guard lock(mutex);
    if (!status.ok()) {
      failure = status;
      return;
    }
    std::copy(output.logits.begin(), output.logits.end(),
              all.logits.begin() + begin * info.num_classes);
    std::copy(output.embeddings.begin(), output.embeddings.end(),
              all.embeddings.begin() + begin * info.embedding_size);
    done += static_cast<int64_t>(some.size());
    bars.Show(stage, "images", done, count);
  });
  if (!failure.ok()) return failure;
  return all;
}

void TellBroken(const PhotoSet& photos) {
  constexpr size_t kTold = 5;
  const auto& broken = photos.broken;
  for (size_t i = 0; i < std::min(broken.size(), kTold); ++i) {
    Tell(absl::StrCat("left out: ", broken[i]));
  }
  if (broken.size() > kTold) Tell(absl::StrCat("left out: ", broken.size() - kTold, " more"));
  if (photos.identical > 0) {
    Tell(absl::StrCat("left out: ", photos.identical, " with the same pixels as another photo"));
  }
}

double RelativeDistance(const std::vector<float>& found, const std::vector<float>& expected) {
  double off = 0;
  double length = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    off += std::pow(double{found[i]} - expected[i], 2);
    length += std::pow(double{expected[i]}, 2);
  }
  return length > 0 ? std::sqrt(off / length) : 0;
}

// Held-out photos on which both networks are of one opinion, with the float network's answers.
absl::Status WriteSelfTest(const std::vector<Photo>& photos, const Model& exact, const Model& int8,
                           const NewFolder& folder) {
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < photos.size() && list.size() < kSelfTestPhotos; ++i) {
    // At even distances, so that they are of several classes; then from the first on.
    const size_t distance = std::max<size_t>(1, photos.size() / kSelfTestPhotos);
    const Photo& photo = photos[i * distance % photos.size()];
    const auto bytes = cli::ReadPhoto({photo.path, absl::OkStatus()}, kMaxSelfTestBytes);
    if (!bytes.ok()) continue;
    // As a self-test decodes.
    const auto image = LoadImage(*bytes, exact.info().input,
                                 {.apply_exif_orientation = false, .reduced_scale_decode = false});
    if (!image.ok()) continue;
    BatchOutput expected;
    BatchOutput found;
    DLA_RETURN_IF_ERROR(exact.Run({image->pixels.data()}, expected));
    DLA_RETURN_IF_ERROR(int8.Run({image->pixels.data()}, found));
    const int top1 = TopK(expected.logits, 1).front().index;
    if (TopK(found.logits, 1).front().index != top1) continue;
    const double off = RelativeDistance(found.embeddings, expected.embeddings);
    const std::string file =
        absl::StrCat(list.size() + 1, std::filesystem::path(photo.path).extension().string());
    DLA_RETURN_IF_ERROR(folder.Write(absl::StrCat("selftest/", file), *bytes));
    ordered_json embedding = ordered_json::array();
    for (float value : expected.embeddings) {
      embedding.push_back(std::stod(absl::StrFormat("%.6g", value)));
    }
    list.push_back({{"file", file},
                    {"top1", top1},
                    {"embedding", std::move(embedding)},
                    {"tolerance", std::clamp(std::ceil(off * 150) / 100, kInt8Tolerance, 1.0)}});
  }
  if (list.empty()) return absl::OkStatus();
  return folder.Write("selftest/selftest.json", ordered_json{{"photos", std::move(list)}}.dump(1));
}

std::string ConfigText(const ModelFiles& files, ordered_json quantization) {
  ordered_json config = ordered_json::parse(files.config_text);
  config["quantization"] = std::move(quantization);
  return config.dump(2) + "\n";
}

// Why the model should not be written; OK if there is no reason.
absl::Status Judge(const Agreement& agreement, const QuantizeOptions& options) {
  std::vector<std::string> reasons;
  if (agreement.top1 < options.min_agreement) {
    reasons.push_back(absl::StrFormat("top-1 agreement is %.2f %%, and --min-agreement %.2f %%",
                                      100 * agreement.top1, 100 * options.min_agreement));
  }
  if (agreement.mean_cosine < options.min_cosine) {
    reasons.push_back(absl::StrFormat("the mean cosine is %.5f, and --min-cosine %g",
                                      agreement.mean_cosine, options.min_cosine));
  }
  if (reasons.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      absl::StrJoin(reasons, "; "),
      ". Photos more like those that the model was trained on may help, or --most-error 0.005, "
      "which keeps more layers float; --force writes it as it is"));
}

absl::Status Quantize(const QuantizeOptions& options, Bars& bars) {
  DLA_ASSIGN_OR_RETURN(const ModelFiles files,
                       options.embedded ? EmbeddedModelFiles() : ReadModelFiles(options.model));
  if (files.quantization) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.model, " is int8 already; give the float model that it was made of"));
  }
  DLA_ASSIGN_OR_RETURN(NewFolder folder, NewFolder::Create(options.out));
  DLA_ASSIGN_OR_RETURN(const PhotoSet photos,
                       LoadPhotoSet({.paths = options.images,
                                     .held_out = options.held_out,
                                     .photos = options.photos,
                                     .calibrate = options.calibrate,
                                     .fewest = options.force ? 2 : kFewestPhotos,
                                     .threads = options.threads},
                                    files.config));
  TellBroken(photos);

  QuantizerOptions quantizer{.threads = options.threads, .most_error = options.most_error};
  quantizer.progress = [&bars](const char* stage, int64_t done, int64_t total) {
    bars.Show(stage, stage == absl::string_view("scan") ? "passes" : "images", done, total);
  };
  DLA_ASSIGN_OR_RETURN(const QuantizedModel quantized,
                       QuantizeModel(files, InputsOf(photos.calibration), quantizer));
  bars.Hide();
  DLA_RETURN_IF_ERROR(cli::WriteAll(STDOUT_FILENO, ScanText(quantized.layers)));

  // What is judged is what lies on the disk, loaded as the server will load it.
  DLA_RETURN_IF_ERROR(folder.Write("model.safetensors",
                                   SerializeSafeTensors(QuantizedTensors(
                                       files.layout, quantized.quantization, files.checkpoint))));
  DLA_RETURN_IF_ERROR(folder.Write("config.json", ConfigText(files, {{"format", 1}})));
  DLA_ASSIGN_OR_RETURN(std::unique_ptr<Model> int8, LoadModel(folder.path(), {}));
  if (!absl::StrContains(int8->info().engine, "int8")) {
    // Here it would run in float and agree better than where it runs in int8.
    DLA_ASSIGN_OR_RETURN(int8, LoadModel(folder.path(), {.engine = Engine::kReference}));
  }
  const LoadOptions fp32 = {.precision = Precision::kFp32};
  DLA_ASSIGN_OR_RETURN(const std::unique_ptr<Model> exact,
                       options.embedded ? LoadEmbeddedModel(fp32) : LoadModel(options.model, fp32));
  const std::vector<PhotoInput> held_out = InputsOf(photos.held_out);
  DLA_ASSIGN_OR_RETURN(const BatchOutput expected,
                       Answers(*exact, held_out, options.threads, "float", bars));
  DLA_ASSIGN_OR_RETURN(const BatchOutput found,
                       Answers(*int8, held_out, options.threads, "int8", bars));
  bars.Hide();
  std::vector<int> labels;
  for (const Photo& photo : photos.held_out) labels.push_back(photo.label);
  const Agreement agreement =
      CompareAnswers(expected, found, static_cast<int64_t>(held_out.size()), labels);
  DLA_RETURN_IF_ERROR(cli::WriteAll(
      STDOUT_FILENO,
      absl::StrCat("\nint8 (", int8->info().engine, ") against float32 (", exact->info().engine,
                   "), held-out photos; calibrated on ", photos.calibration.size(), " others\n",
                   AgreementText(agreement))));

  absl::Status judgement = Judge(agreement, options);
  if (!judgement.ok() && !options.force) return judgement;
  if (!judgement.ok())
    Tell(absl::StrCat("dla-quantize: written all the same: ", judgement.message()));
  DLA_RETURN_IF_ERROR(folder.Write(
      "config.json",
      ConfigText(files, QuantizationJson(quantized, static_cast<int64_t>(photos.calibration.size()),
                                         agreement))));
  DLA_RETURN_IF_ERROR(WriteSelfTest(photos.held_out, *exact, *int8, folder));
  DLA_ASSIGN_OR_RETURN(const auto self_test, ReadSelfTest(folder.path()));
  DLA_RETURN_IF_ERROR(RunSelfTest(*int8, self_test));
  DLA_RETURN_IF_ERROR(folder.Commit());
  Tell(absl::StrCat("written: ", cli::Printable(options.out)));
  return absl::OkStatus();
}

}  // namespace

ExitCode RunQuantize(const QuantizeOptions& options) {
  const cli::Interrupt interrupt([] {
    RemoveUnfinished();
    if (cli::DescribeTerminal(STDERR_FILENO).can_redraw) cli::WriteError("\r\x1b[K");
    std::_Exit(kInterrupted);
  });
  Bars bars;
  const absl::Status status = Quantize(options, bars);
  bars.Hide();
  if (status.ok()) return kWritten;
  Tell(absl::StrCat("dla-quantize: ", cli::Printable(status.message())));
  return kFailed;
}

}  // namespace dla::quantize
