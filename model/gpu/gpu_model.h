// A network on one or more GPUs as the server runs it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/gpu/runtime.h"
#include "model/model.h"

namespace dla::gpu {

// Each batch goes to the card with the fewest batches under way, padded to the next step of the
// ladder. A card that is lost is left out from then on; Run fails with UNAVAILABLE, which says why,
// only for the batch that met it and once no card is left.
class GpuModel final : public Model {
 public:
  struct Options {
    int replicas = 1;         // on each card: memory to compute in
    int lanes = 2;            // of each replica: batches of which all but one copy
    int max_batch = 128;      // the ladder's last step
    int pinned_photos = 512;  // that wait in memory which cards read without a detour
  };

  // `info` has everything but what only the cards know (lanes, max_batch). Steps of the ladder for
  // which a card's memory does not suffice are left out; RESOURCE_EXHAUSTED if none fits.
  // `networks` are of the same weights, one for each card, at least one.
  static absl::StatusOr<std::unique_ptr<Model>> Make(
      ModelInfo info, std::vector<std::unique_ptr<DeviceNetwork>> networks, const Options& options,
      Runtime& runtime);

  ~GpuModel() override;

  const ModelInfo& info() const override { return info_; }
  void PrepareThread(int) const override {}
  std::shared_ptr<PixelMemory> photo_memory() const override { return photo_memory_; }
  absl::Status Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const override;

 private:
  struct Card {
    std::unique_ptr<DeviceNetwork> network;
    std::vector<std::unique_ptr<DeviceReplica>> replicas;
    std::vector<std::unique_ptr<Lane>> lanes;  // of all replicas, replica by replica in turns
    // Guarded by mutex_.
    std::vector<Lane*> free;
    absl::Status state;  // not OK: lost
  };
  struct Lease {
    Card* card;
    Lane* lane;
  };

  explicit GpuModel(ModelInfo info) : info_(std::move(info)) {}

  absl::Status AddReplicas(const Options& options);
  absl::StatusOr<Lease> Take() const;
  void Return(const Lease& lease, const absl::Status& status) const;
  absl::Status RunOn(Lane& lane, absl::Span<const PhotoInput> photos, size_t row,
                     BatchOutput& output) const;

  ModelInfo info_;
  std::vector<int> ladder_;
  std::shared_ptr<PixelMemory> photo_memory_;

  mutable std::mutex mutex_;
  mutable std::condition_variable returned_;
  mutable std::vector<Card> cards_;
};

}  // namespace dla::gpu
