#include "model/cpu/cpu_network.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "model/cpu/classifier.h"
#include "model/cpu/int8_pixel_ops.h"
#include "model/cpu/pixel_ops.h"

namespace dla::cpu {
namespace {

// The calling thread's, see CpuNetwork::UseThreads.
thread_local std::unique_ptr<ThreadTeam> this_threads_team;

ThreadTeam& Team() {
  if (this_threads_team == nullptr) this_threads_team = std::make_unique<ThreadTeam>(1);
  return *this_threads_team;
}

}  // namespace

void CpuNetwork::UseThreads(int threads) {
  if (Team().size() != threads) this_threads_team = std::make_unique<ThreadTeam>(threads);
}

// Memory for the values of some photos, one photo's after the other's, and for the stem's strips.
class CpuNetwork::Workspace {
 public:
  template <typename Pointer>
  using Planes = absl::InlinedVector<Pointer, 32>;

  struct ConvPlanes {
    Planes<const char*> sources;
    Planes<const char*> residuals;
    Planes<char*> targets;

    ConvBuffers buffers() const {
      return {sources.data(), residuals.empty() ? nullptr : residuals.data(), targets.data()};
    }
  };

  // For so many photos, of which so many are worked on at once as far as values are brief.
  Workspace(const Plan& plan, int photos, int lanes) : plan_(plan), photos_(photos), lanes_(lanes) {
    auto aligned = [](int64_t bytes, int64_t to) { return (bytes + to - 1) / to * to; };
    constexpr int64_t kPage = 4096;
    photo_bytes_ = aligned(plan.photo_bytes, kPage);
    brief_bytes_ = aligned(plan.brief_bytes, kPage);
    strip_bytes_ = aligned(plan.strip_bytes, kPage);
    // Tiles read beyond the last value, see ConvKernel.
    int64_t guard = 0;
    for (const Value& value : plan.values) {
      guard = std::max(guard, (2 * value.geometry.pitch() + 64) * value.cell_bytes());
    }
    constexpr int64_t kHugePage = 2 << 20;
    const int64_t bytes =
        aligned((strip_bytes_ + brief_bytes_) * lanes + photo_bytes_ * photos + guard, kHugePage);
    memory_ = static_cast<char*>(std::aligned_alloc(kHugePage, bytes));
    if (memory_ == nullptr) throw std::bad_alloc();
    madvise(memory_, bytes, MADV_HUGEPAGE);  // fewer misses of the address cache; may fail
    std::memset(memory_, 0, bytes);
    lane_of_photo_.resize(photos);
  }
  ~Workspace() { std::free(memory_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  bool Fits(int photos, int lanes) const { return photos <= photos_ && lanes <= lanes_; }

  // Has a photo use a lane's memory for its brief values from now on.
  void UseLane(int photo, int lane) { lane_of_photo_[photo] = lane; }

  // A lane's memory for the stem.
  char* Strips(int lane) const { return memory_ + lane * strip_bytes_; }

  // Begin of a value's plane.
  char* Begin(int photo, int value, int plane = 0) const {
    const Value& v = plan_.values[value];
    char* const briefs = memory_ + lanes_ * strip_bytes_;
    char* const begin = v.brief ? briefs + lane_of_photo_[photo] * brief_bytes_
                                : briefs + lanes_ * brief_bytes_ + photo * photo_bytes_;
    return begin + v.offset + plane * v.plane_bytes();
  }
  // First pixel of a value's plane.
  char* First(int photo, int value, int plane = 0) const {
    const Value& v = plan_.values[value];
    return Begin(photo, value, plane) + v.geometry.origin() * v.cell_bytes();
  }

  Int8View View(int photo, int value) const {
    const Value& v = plan_.values[value];
    return {First(photo, value), v.plane_bytes(), v.geometry.pitch(), v.cell_channels};
  }

  ConvPlanes PlanesOf(const Step& step, int photo) const {
    ConvPlanes planes;
    for (int input : step.inputs) Append(photo, input, planes.sources);
    if (step.residual >= 0) Append(photo, step.residual, planes.residuals);
    Append(photo, step.output, planes.targets);
    return planes;
  }

  void ClearBorders(int photo, int value) const {
    const Value& v = plan_.values[value];
    for (int plane = 0; plane < v.planes(); ++plane) {
      ClearBorder(Begin(photo, value, plane), v.geometry, v.cell_bytes());
    }
  }

 private:
  template <typename Pointer>
  void Append(int photo, int value, Planes<Pointer>& planes) const {
    for (int plane = 0; plane < plan_.values[value].planes(); ++plane) {
      planes.push_back(First(photo, value, plane));
    }
  }

  const Plan& plan_;
  const int photos_;
  const int lanes_;
  int64_t photo_bytes_;
  int64_t brief_bytes_;
  int64_t strip_bytes_;
  char* memory_;  // each lane's strips, each lane's brief values, then each photo's others
  std::vector<int> lane_of_photo_;
};

CpuNetwork::CpuNetwork(const NetworkLayout& layout, TensorSource source, const InputSpec& input,
                       const KernelSet& kernels)
    : kernels_(kernels),
      plan_(MakePlan(layout, source, input.height, input.width, kernels)),
      stem_(input, plan_),
      features_(layout.embedding_size),
      fc_weight_(source("fc.weight")),
      fc_bias_(source("fc.bias")) {}

CpuNetwork::CpuNetwork(const NetworkLayout& layout, TensorSource source,
                       const Quantization& quantization, const InputSpec& input,
                       const Int8Kernels& kernels)
    : kernels_(kernels.wide()),
      plan_(MakeInt8Plan(layout, source, quantization, input, kernels)),
      stem_(input, plan_),
      features_(layout.embedding_size),
      fc_weight_(source("fc.weight")),
      fc_bias_(source("fc.bias")) {}

CpuNetwork::~CpuNetwork() = default;

std::unique_ptr<CpuNetwork::Workspace> CpuNetwork::TakeWorkspace(int photos, int lanes) const {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(free_.back());
      free_.pop_back();
      if (workspace->Fits(photos, lanes)) return workspace;
    }
  }
  return std::make_unique<Workspace>(plan_, photos, lanes);
}

void CpuNetwork::RunConv(const Step& step, Workspace& workspace, int first, int end,
                         ThreadTeam& team) const {
  absl::InlinedVector<Workspace::ConvPlanes, 4> planes;
  for (int photo = first; photo < end; ++photo) {
    if (step.clears_border) workspace.ClearBorders(photo, step.output);
    planes.push_back(workspace.PlanesOf(step, photo));
  }
  const auto tiles = static_cast<int64_t>(step.tiles.size());
  team.RunRanges((end - first) * tiles, [&](int64_t begin, int64_t stop) {
    kernels_.BeginThread();
    for (; begin < stop; begin += step.chunk_tiles) {
      // A chunk may end in another photo than it begins.
      const int64_t chunk_end = std::min(stop, begin + step.chunk_tiles);
      absl::InlinedVector<ConvPiece, 4> pieces;
      for (int64_t from = begin, to; from < chunk_end; from = to) {
        const int64_t photo = from / tiles;
        to = std::min(chunk_end, (photo + 1) * tiles);
        pieces.push_back(
            {planes[photo].buffers(),
             absl::MakeConstSpan(step.tiles).subspan(from - photo * tiles, to - from)});
      }
      step.kernel->Run(pieces);
    }
  });
  const Value& value = plan_.values[step.output];
  const PlaneGeometry& output = value.geometry;
  for (int photo = first; photo < end; ++photo) {
    if (step.clears_last_halves) {
      ClearLastHalves(workspace.First(photo, step.output), output, 0, output.height,
                      value.cell_bytes());
    }
    if (!step.clears_row_ends) continue;
    for (char* plane : planes[photo - first].targets) {
      ClearRowEnds(plane, output, 0, output.height, value.cell_bytes());
    }
  }
}

void CpuNetwork::RunPixelOp(const Step& step, Workspace& workspace, int first, int end,
                            ThreadTeam& team) const {
  const Value& output = plan_.values[step.output];
  const Value& from = plan_.values[step.inputs.front()];
  const Element element = output.element;
  const int planes = output.planes();
  team.RunRanges(int64_t{end - first} * planes, [&](int64_t begin, int64_t stop) {
    for (int64_t i = begin; i < stop; ++i) {
      const int photo = first + static_cast<int>(i / planes);
      const int plane = static_cast<int>(i % planes);
      const int input = step.inputs.front();
      const int other = step.inputs.back();
      if (step.kind == Step::Kind::kAdd && element != Element::kInt8) {
        Add(workspace.Begin(photo, input, plane), workspace.Begin(photo, other, plane),
            workspace.Begin(photo, step.output, plane), output.geometry, element);
        continue;
      }
      if (step.clears_border) {
        ClearBorder(workspace.Begin(photo, step.output, plane), output.geometry,
                    output.cell_bytes());
      }
      const char* source = workspace.First(photo, input, plane);
      char* target = workspace.First(photo, step.output, plane);
      if (step.kind == Step::Kind::kAdd) {
        AddInt8(workspace.View(photo, input), workspace.View(photo, other), step.factors, plane,
                target, output.geometry, output.cell_channels);
      } else if (element == Element::kInt8) {
        step.kind == Step::Kind::kMaxPool
            ? MaxPool2x2Int8(source, from.geometry, target, output.geometry, output.cell_channels)
            : AveragePool3x3Int8(source, from.geometry, target, output.geometry,
                                 output.cell_channels);
      } else {
        step.kind == Step::Kind::kMaxPool
            ? MaxPool2x2(source, from.geometry, target, output.geometry, element)
            : AveragePool3x3(source, from.geometry, target, output.geometry, element);
      }
    }
  });
}

void CpuNetwork::RunStep(const Step& step, Workspace& workspace, int first, int end,
                         ThreadTeam& team) const {
  step.kind == Step::Kind::kConv ? RunConv(step, workspace, first, end, team)
                                 : RunPixelOp(step, workspace, first, end, team);
}

void CpuNetwork::RunPhotoSteps(absl::Span<const PhotoInput> photos, Workspace& workspace,
                               ThreadTeam& team) const {
  const auto count = static_cast<int>(photos.size());
  const Step& last = plan_.steps[plan_.stem_steps - 1];  // of the stem
  auto run_stem = [&](int photo, RowRange rows, int lane) {
    stem_.Run(photos[photo], rows, workspace.Strips(lane),
              workspace.PlanesOf(last, photo).targets.data());
  };
  const int height = plan_.values[last.output].geometry.height;
  if (count % team.size() == 0) {
    // Each thread takes photos of its own.
    const int share = count / team.size();
    team.Run([&](int lane) {
      kernels_.BeginThread();
      ThreadTeam alone(1);
      for (int i = lane * share; i < (lane + 1) * share; ++i) {
        workspace.UseLane(i, lane);
        if (last.clears_border) workspace.ClearBorders(i, last.output);
        run_stem(i, {0, height}, lane);
        for (int step = plan_.stem_steps; step < plan_.photo_steps; ++step) {
          RunStep(plan_.steps[step], workspace, i, i + 1, alone);
        }
      }
    });
    return;
  }
  // All threads work on one photo after the other.
  for (int i = 0; i < count; ++i) {
    workspace.UseLane(i, 0);
    if (last.clears_border) workspace.ClearBorders(i, last.output);
    team.Run([&](int lane) {
      kernels_.BeginThread();
      run_stem(i, {height * lane / team.size(), height * (lane + 1) / team.size()}, lane);
    });
    for (int step = plan_.stem_steps; step < plan_.photo_steps; ++step) {
      RunStep(plan_.steps[step], workspace, i, i + 1, team);
    }
  }
}

void CpuNetwork::Run(absl::Span<const PhotoInput> photos, float* logits, float* embeddings) const {
  const auto count = static_cast<int>(photos.size());
  ThreadTeam& team = Team();
  std::unique_ptr<Workspace> workspace = TakeWorkspace(count, team.size());
  RunPhotoSteps(photos, *workspace, team);
  for (size_t step = plan_.photo_steps; step < plan_.steps.size(); ++step) {
    RunStep(plan_.steps[step], *workspace, 0, count, team);
  }
  team.Run([&](int) { kernels_.EndThread(); });

  const Value& last = plan_.values[plan_.output];
  for (int photo = 0; photo < count; ++photo) {
    for (int plane = 0; plane < last.planes(); ++plane) {
      GlobalAverage(workspace->First(photo, plan_.output, plane), last.geometry, last.element,
                    embeddings + int64_t{photo} * features_ + plane * kCell);
    }
  }
  Classify(embeddings, count, fc_weight_, fc_bias_, logits);
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(workspace));
}

}  // namespace dla::cpu
