// A network on the project's own kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/types/span.h"
#include "model/cpu/int8_conv_kernel.h"
#include "model/cpu/plan.h"
#include "model/cpu/stem.h"
#include "model/cpu/thread_team.h"
#include "model/folded_conv.h"
#include "model/input_spec.h"
#include "model/layout.h"
#include "model/network.h"
#include "model/quantization.h"

namespace dla::cpu {

// Memory to work in is allocated at the first run and kept for the next, as much as runs at the
// same time have ever needed.
class CpuNetwork final : public Network {
 public:
  CpuNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
             const KernelSet& kernels);
  // In int8. `source` gives the classifier and what the quantization leaves out; which fits the
  // layout and the contract in quantization.h.
  CpuNetwork(const NetworkLayout& layout, TensorSource source, const Quantization& quantization,
             const InputSpec& input, const Int8Kernels& kernels);
  ~CpuNetwork() override;

  // Has as many threads work on each of the calling thread's runs, instead of it alone.
  static void UseThreads(int threads);

  void Run(absl::Span<const PhotoInput> photos, float* logits, float* embeddings) const override;

 private:
  class Workspace;

  // The steps up to Plan::photo_steps.
  void RunPhotoSteps(absl::Span<const PhotoInput> photos, Workspace& workspace,
                     ThreadTeam& team) const;
  // A step for the photos [first, end).
  void RunStep(const Step& step, Workspace& workspace, int first, int end, ThreadTeam& team) const;
  void RunConv(const Step& step, Workspace& workspace, int first, int end, ThreadTeam& team) const;
  void RunPixelOp(const Step& step, Workspace& workspace, int first, int end,
                  ThreadTeam& team) const;
  std::unique_ptr<Workspace> TakeWorkspace(int photos, int lanes) const;

  const KernelSet& kernels_;
  const Plan plan_;
  const Stem stem_;
  const int features_;
  std::vector<float> fc_weight_;  // [classes, features]
  std::vector<float> fc_bias_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> free_;  // guarded by mutex_
};

}  // namespace dla::cpu
