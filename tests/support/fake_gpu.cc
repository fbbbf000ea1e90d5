#include "tests/support/fake_gpu.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dla::testing {
namespace {

// A contract that the caller broke: no test may go on.
void Require(bool kept, const char* contract) {
  if (kept) return;
  std::fprintf(stderr, "a fake card was used wrongly: %s\n", contract);
  std::abort();
}

absl::Status Lost() { return absl::UnavailableError("the device is lost: fell off the bus"); }

struct Network {
  FakeCard& card;
  FakeCompute compute;
  InputSpec input;
  int classes;
  int features;
};

class FakeLane final : public gpu::Lane {
 public:
  FakeLane(const Network& network, std::set<int> steps)
      : network_(network), steps_(std::move(steps)), rows_(*steps_.rbegin()) {}
  ~FakeLane() override { Require(!began_, "a lane ends while photos are under way"); }

  absl::Status CopyIn(int row, const PhotoInput& photo) override {
    const Use use(*this);
    Require(row >= 0 && row < static_cast<int>(rows_.size()), "a row beyond the largest step");
    if (!std::exchange(began_, true)) {
      const int running = ++network_.card.running;
      int most = network_.card.most_running;
      while (most < running && !network_.card.most_running.compare_exchange_weak(most, running)) {
      }
    }
    if (network_.card.lost) return Lost();
    if (network_.card.copies_fail && row == 1) return absl::InternalError("a copy failed");
    rows_[row] = photo;
    copied_.insert(row);
    ++network_.card.photos_held;
    return absl::OkStatus();
  }

  absl::Status Launch(int step) override {
    const Use use(*this);
    Require(steps_.contains(step), "a step that was not added");
    if (network_.card.lost) return Lost();
    if (network_.card.no_memory) return absl::ResourceExhaustedError("the card's memory is full");
    network_.card.CountLaunch(step);
    step_ = step;
    return absl::OkStatus();
  }

  // Only now are the photos read: whoever lets go of them earlier is found out.
  absl::StatusOr<gpu::Results> Wait() override {
    const Use use(*this);
    if (network_.card.on_wait) network_.card.on_wait();
    std::vector<PhotoInput> photos;
    std::vector<uint8_t> black(size_t{3} * network_.input.height * network_.input.width);
    for (int row = 0; row < step_; ++row) {
      photos.push_back(copied_.contains(row) ? rows_[row] : PhotoInput(black.data()));
    }
    logits_.assign(photos.size() * network_.classes, 0);
    embeddings_.assign(photos.size() * network_.features, 0);
    if (!photos.empty()) network_.compute(photos, logits_.data(), embeddings_.data());
    const int k = std::min(gpu::kTopClasses, network_.classes);
    indices_.clear();
    probabilities_.clear();
    for (size_t i = 0; i < photos.size(); ++i) {
      const auto row = absl::MakeConstSpan(logits_).subspan(i * network_.classes, network_.classes);
      for (const ClassProbability& top : TopK(row, k)) {
        indices_.push_back(top.index);
        probabilities_.push_back(top.probability);
      }
    }
    network_.card.photos_held -= static_cast<int>(copied_.size());
    copied_.clear();
    if (std::exchange(began_, false)) --network_.card.running;
    step_ = 0;
    if (network_.card.lost) return Lost();
    return gpu::Results{.logits = logits_.data(),
                        .embeddings = embeddings_.data(),
                        .top_k = k,
                        .top_indices = indices_.data(),
                        .top_probabilities = probabilities_.data(),
                        .times = {.copy_in = 0.001F, .compute = 0.002F, .copy_out = 0.003F}};
  }

 private:
  // One thread at a time.
  class Use {
   public:
    explicit Use(FakeLane& lane) : lane_(lane) {
      Require(!lane_.used_.exchange(true), "a lane is used by two threads at once");
    }
    ~Use() { lane_.used_ = false; }

   private:
    FakeLane& lane_;
  };

  const Network& network_;
  const std::set<int> steps_;
  std::atomic<bool> used_ = false;
  bool began_ = false;
  int step_ = 0;
  std::vector<PhotoInput> rows_;
  std::set<int> copied_;
  std::vector<float> logits_, embeddings_, probabilities_;
  std::vector<int32_t> indices_;
};

class FakeReplica final : public gpu::DeviceReplica {
 public:
  explicit FakeReplica(const Network& network) : network_(network) {}

  absl::Status AddStep(int photos) override {
    Require(steps_.empty() || photos < *steps_.begin(), "steps are added from large to small");
    if (network_.card.lost) return Lost();
    if (photos > network_.card.largest_step) {
      return absl::ResourceExhaustedError(absl::StrCat(photos, " photos do not fit"));
    }
    steps_.insert(photos);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<gpu::Lane>> MakeLane() override {
    return std::make_unique<FakeLane>(network_, steps_);
  }

 private:
  const Network& network_;
  std::set<int> steps_;
};

class FakeNetwork final : public gpu::DeviceNetwork {
 public:
  FakeNetwork(const gpu::DeviceInfo& device, Network network)
      : device_(device), network_(std::move(network)) {}

  const gpu::DeviceInfo& device() const override { return device_; }
  absl::StatusOr<std::unique_ptr<gpu::DeviceReplica>> MakeReplica() override {
    if (network_.card.lost) return Lost();
    auto replica = std::make_unique<FakeReplica>(network_);
    return replica;
  }

 private:
  const gpu::DeviceInfo device_;
  const Network network_;
};

}  // namespace

FakeCompute FirstByteCompute(int classes, int features) {
  return
      [classes, features](absl::Span<const PhotoInput> photos, float* logits, float* embeddings) {
        for (size_t i = 0; i < photos.size(); ++i) {
          const int mark = photos[i].normalized != nullptr ? static_cast<int>(*photos[i].normalized)
                                                           : *photos[i].pixels;
          if (mark < classes) logits[i * classes + mark] = 10;
          embeddings[i * features] = static_cast<float>(mark);
        }
      };
}

std::vector<int> FakeCard::launches() const {
  const std::lock_guard lock(mutex_);
  return launches_;
}

void FakeCard::CountLaunch(int step) {
  const std::lock_guard lock(mutex_);
  launches_.push_back(step);
}

FakeRuntime::FakeRuntime(int cards, MakeCompute make) : make_(std::move(make)) {
  for (int i = 0; i < cards; ++i) {
    devices_.push_back({.index = i,
                        .name = "Fake Card",
                        .pci_bus_id = absl::StrCat("0000:0", i, ":00.0"),
                        .capability = "9.0",
                        .memory_bytes = int64_t{80} << 30});
    cards_.push_back(std::make_unique<FakeCard>());
  }
}

absl::StatusOr<std::unique_ptr<gpu::DeviceNetwork>> FakeRuntime::Load(int device,
                                                                      const NetworkLayout& layout,
                                                                      TensorSource source,
                                                                      const InputSpec& input,
                                                                      gpu::Element) {
  if (cards_[device]->lost) return Lost();
  FakeCompute compute = make_ ? make_(layout, source, input)
                              : FirstByteCompute(layout.num_classes, layout.embedding_size);
  return std::make_unique<FakeNetwork>(devices_[device],
                                       Network{.card = *cards_[device],
                                               .compute = std::move(compute),
                                               .input = input,
                                               .classes = layout.num_classes,
                                               .features = layout.embedding_size});
}

absl::StatusOr<std::shared_ptr<void>> FakeRuntime::AllocatePinned(size_t bytes) {
  if (no_pinned_memory) return absl::ResourceExhaustedError("no pinned memory");
  auto* const memory = new char[bytes];
  const std::lock_guard lock(slabs_->mutex);
  slabs_->bytes[memory] = bytes;
  return std::shared_ptr<void>(memory, [slabs = slabs_](void* pinned) {
    auto* const slab = static_cast<char*>(pinned);
    const std::lock_guard freeing(slabs->mutex);
    slabs->bytes.erase(slab);
    delete[] slab;
  });
}

bool FakeRuntime::IsPinned(const void* memory) const {
  const auto* const byte = static_cast<const char*>(memory);
  const std::lock_guard lock(slabs_->mutex);
  return std::any_of(slabs_->bytes.begin(), slabs_->bytes.end(), [&](const auto& slab) {
    return byte >= slab.first && byte < slab.first + slab.second;
  });
}

}  // namespace dla::testing
