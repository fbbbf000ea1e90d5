// A network that needs no LibTorch and does what a test tells it to.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/image_codec.h"
#include "model/model.h"
#include "server/mutex.h"

namespace dla {

// Photos are 2 x 2 pixels. The logit of class c is 10 where c is the photo's first byte (or first
// value, if normalised), else 0; the embedding is {first byte or value, 1}. Thread-safe.
class FakeModel : public Model {
 public:
  explicit FakeModel(int num_classes = 4) {
    info_.architecture = "fake";
    info_.precision = "fp32";
    info_.device = "cpu";
    info_.num_classes = num_classes;
    info_.embedding_size = 2;
    info_.parameters = 42;
    info_.input.height = 2;
    info_.input.width = 2;
    for (int i = 0; i < num_classes; ++i) {
      info_.labels.push_back({.name = "class " + std::to_string(i), .id = "n" + std::to_string(i)});
    }
  }

  ~FakeModel() override {
    if (on_destroyed_) on_destroyed_();
  }

  const ModelInfo& info() const override { return info_; }
  void PrepareThread(int) const override {}

  absl::Status Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const override {
    Fault fault;
    {
      server::MutexLock lock(mu_);
      ++running_;
      batches_.push_back(static_cast<int>(photos.size()));
      changed_.NotifyAll();
      while (held_) changed_.Wait(mu_);
      fault = fault_;
    }
    if (fault) {
      std::vector<int> marks;
      for (const PhotoInput& photo : photos) marks.push_back(MarkOf(photo));
      if (absl::Status status = fault(marks); !status.ok()) return status;
    }
    output.logits.assign(photos.size() * info_.num_classes, 0.0f);
    output.embeddings.clear();
    for (size_t i = 0; i < photos.size(); ++i) {
      const int mark = MarkOf(photos[i]);
      if (mark < info_.num_classes) output.logits[i * info_.num_classes + mark] = 10;
      output.embeddings.insert(output.embeddings.end(), {static_cast<float>(mark), 1.0f});
    }
    server::MutexLock lock(mu_);
    if (drop_results_) output.logits.resize(output.logits.size() / 2);
    return result_;
  }

  // While held, every Run blocks.
  void Hold() {
    Set([this] { held_ = true; });
  }
  void Release() {
    Set([this] { held_ = false; });
  }

  // What Run returns from now on.
  void FailWith(absl::Status status) {
    Set([this, &status] { result_ = std::move(status); });
  }
  void DropHalfOfTheResults() {
    Set([this] { drop_results_ = true; });
  }

  // Called by each Run from now on with the first bytes of its photos, without a lock: it may
  // throw, block, or return an error, which Run returns. Ready-made ones are in faults.h.
  using Fault = std::function<absl::Status(const std::vector<int>& marks)>;
  void InjectFault(Fault fault) {
    Set([this, &fault] { fault_ = std::move(fault); });
  }

  // Called by the destructor. To be set before others use the model.
  void OnDestroyed(std::function<void()> on_destroyed) { on_destroyed_ = std::move(on_destroyed); }

  // Blocks until so many calls of Run have begun.
  void AwaitRuns(int count) const {
    server::MutexLock lock(mu_);
    while (running_ < count) changed_.Wait(mu_);
  }

  // The sizes of all batches so far.
  std::vector<int> batches() const {
    server::MutexLock lock(mu_);
    return batches_;
  }

 private:
  static int MarkOf(const PhotoInput& photo) {
    return photo.normalized != nullptr ? static_cast<int>(photo.normalized[0]) : photo.pixels[0];
  }

  template <typename Change>
  void Set(Change change) {
    server::MutexLock lock(mu_);
    change();
    changed_.NotifyAll();
  }

  ModelInfo info_;
  mutable server::Mutex mu_;
  mutable server::CondVar changed_;
  mutable int running_ = 0;
  mutable std::vector<int> batches_;
  bool held_ = false;
  bool drop_results_ = false;
  absl::Status result_;
  Fault fault_;
  std::function<void()> on_destroyed_;
};

// Photos for it: every pixel is the first byte; "bad" and nothing at all are no photo.
inline absl::StatusOr<Image> FakeDecode(absl::string_view bytes, const InputSpec& spec,
                                        const Proceed& proceed,
                                        const std::shared_ptr<PixelMemory>& memory) {
  if (absl::Status status = proceed(); !status.ok()) return status;
  if (bytes.empty() || bytes == "bad") return absl::InvalidArgumentError("not a photo");
  return Image{
      .height = spec.height,
      .width = spec.width,
      .pixels = Pixels(spec.height * spec.width * 3, bytes[0], PixelAllocator<uint8_t>(memory))};
}

}  // namespace dla
