#include "model/gpu/gpu_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/gpu/ladder.h"
#include "model/gpu/pixel_pool.h"
#include "model/status_macros.h"

namespace dla::gpu {
namespace {

absl::Status OnCard(const DeviceNetwork& network, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("cuda:", network.device().index, " (",
                                                  network.device().name, "): ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> GpuModel::Make(
    ModelInfo info, std::vector<std::unique_ptr<DeviceNetwork>> networks, const Options& options,
    Runtime& runtime) {
  std::unique_ptr<GpuModel> model(new GpuModel(std::move(info)));
  for (auto& network : networks) model->cards_.push_back({.network = std::move(network)});
  model->ladder_ = MakeLadder(options.max_batch);
  DLA_RETURN_IF_ERROR(model->AddReplicas(options));
  model->info_.max_batch = model->ladder_.back();
  for (Card& card : model->cards_) {
    model->info_.lanes += static_cast<int>(card.lanes.size());
    for (const auto& lane : card.lanes) card.free.push_back(lane.get());
  }
  const InputSpec& input = model->info_.input;
  model->photo_memory_ =
      PixelPool::Make(runtime, size_t{3} * input.height * input.width, options.pinned_photos);
  return model;
}

GpuModel::~GpuModel() {
  // Lanes before the replicas whose memory they use, those before the weights.
  for (Card& card : cards_) {
    card.lanes.clear();
    card.replicas.clear();
  }
}

absl::Status GpuModel::AddReplicas(const Options& options) {
  for (Card& card : cards_) {
    for (int i = 0; i < options.replicas; ++i) {
      auto replica = card.network->MakeReplica();
      if (!replica.ok()) return OnCard(*card.network, replica.status());
      absl::Status too_large;
      for (size_t step = ladder_.size(); step-- > 0;) {
        const absl::Status added = (*replica)->AddStep(ladder_[step]);
        if (added.ok()) continue;
        if (!absl::IsResourceExhausted(added)) return OnCard(*card.network, added);
        too_large = added;
        ladder_.erase(ladder_.begin() + static_cast<ptrdiff_t>(step));
      }
      if (ladder_.empty()) {
        return OnCard(*card.network, absl::ResourceExhaustedError(absl::StrCat(
                                         "no memory for a single photo in replica ", i + 1, " of ",
                                         options.replicas, ": ", too_large.message(),
                                         "; use fewer replicas or models on this card")));
      }
      card.replicas.push_back(*std::move(replica));
    }
    for (int i = 0; i < options.lanes; ++i) {
      for (const auto& replica : card.replicas) {
        auto lane = replica->MakeLane();
        if (!lane.ok()) return OnCard(*card.network, lane.status());
        card.lanes.push_back(*std::move(lane));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GpuModel::Lease> GpuModel::Take() const {
  std::unique_lock lock(mutex_);
  for (;;) {
    Card* best = nullptr;
    bool alive = false;
    for (Card& card : cards_) {
      if (!card.state.ok()) continue;
      alive = true;
      if (!card.free.empty() && (best == nullptr || card.free.size() > best->free.size())) {
        best = &card;
      }
    }
    if (!alive) return cards_.front().state;
    if (best != nullptr) {
      // The one that has been free for longest: its replica is the least likely to be busy.
      Lane* const lane = best->free.front();
      best->free.erase(best->free.begin());
      return Lease{best, lane};
    }
    returned_.wait(lock);
  }
}

void GpuModel::Return(const Lease& lease, const absl::Status& status) const {
  {
    const std::lock_guard lock(mutex_);
    lease.card->free.push_back(lease.lane);
    if (absl::IsUnavailable(status)) lease.card->state.Update(status);
  }
  returned_.notify_all();
}

absl::Status GpuModel::RunOn(Lane& lane, absl::Span<const PhotoInput> photos, size_t row,
                             BatchOutput& output) const {
  absl::Status status;
  for (size_t i = 0; i < photos.size() && status.ok(); ++i) {
    status = lane.CopyIn(static_cast<int>(i), photos[i]);
  }
  if (status.ok()) status = lane.Launch(StepFor(ladder_, static_cast<int>(photos.size())));
  // After an error, too: until then the card may read the photos.
  const absl::StatusOr<Results> results = lane.Wait();
  status.Update(results.status());
  if (!status.ok()) return status;
  const size_t classes = info_.num_classes;
  const size_t features = info_.embedding_size;
  const size_t top_k = output.top_k;
  std::copy_n(results->logits, photos.size() * classes, output.logits.data() + row * classes);
  std::copy_n(results->embeddings, photos.size() * features,
              output.embeddings.data() + row * features);
  for (size_t i = 0; i < photos.size() * top_k; ++i) {
    output.top[row * top_k + i] = {results->top_indices[i], results->top_probabilities[i]};
  }
  output.times = results->times;
  return absl::OkStatus();
}

absl::Status GpuModel::Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const {
  output.top_k = std::min(kTopClasses, info_.num_classes);
  output.logits.resize(photos.size() * info_.num_classes);
  output.embeddings.resize(photos.size() * info_.embedding_size);
  output.top.resize(photos.size() * output.top_k);
  const size_t most = ladder_.back();
  for (size_t begin = 0; begin < photos.size(); begin += most) {
    DLA_ASSIGN_OR_RETURN(const Lease lease, Take());
    absl::Status status = RunOn(*lease.lane, photos.subspan(begin, most), begin, output);
    if (!status.ok()) status = OnCard(*lease.card->network, status);
    Return(lease, status);
    DLA_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

}  // namespace dla::gpu
