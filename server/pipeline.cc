#include "server/pipeline.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "model/preprocess.h"
#include "model/status_macros.h"
#include "server/grpc_status.h"
#include "server/metrics.h"

namespace dla::server {
namespace {

int64_t Milliseconds(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

absl::StatusOr<std::vector<float>> CopyNormalized(absl::string_view bytes, const InputSpec& spec) {
  static_assert(std::endian::native == std::endian::little);
  const size_t count = size_t{3} * spec.height * spec.width;
  if (bytes.size() != count * sizeof(float)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a normalised photo of ", bytes.size(), " bytes; this model takes ", count * sizeof(float),
        ", 3 x ", spec.height, " x ", spec.width, " values of float32"));
  }
  std::vector<float> values(count);
  std::memcpy(values.data(), bytes.data(), bytes.size());  // which may be misaligned
  return values;
}

}  // namespace

struct Pipeline::Job {
  ServedModel& model;
  PhotoSource photo;
  PhotoContext context;
  Budget::Share place{};
  Shares pixels{};

  // Whose turn to decode it is. Each model counts for itself, so that a caller who floods one is
  // served by the others.
  Caller turn() const {
    return {.client = absl::HashOf(context.caller.client, model.instance()),
            .priority = context.caller.priority};
  }
};

namespace {

template <typename Job>
void Refuse(Job job, absl::Status status) {
  // Before the caller may come back.
  job.place.Return();
  job.pixels.Return();
  std::move(job.context.done)(std::move(status));
}

}  // namespace

struct Pipeline::Gate {
  Mutex mu;
  bool open ABSL_GUARDED_BY(mu) = true;

  // `pipeline` is touched only while the gate is open.
  void Resume(Pipeline& pipeline, Job job) {
    {
      MutexLock lock(mu);
      if (open) {
        const Caller turn = job.turn();
        pipeline.pool_.Submit(turn, [&pipeline, job = std::move(job)]() mutable {
          pipeline.Compute(std::move(job));
        });
        return;
      }
    }
    Refuse(std::move(job), absl::UnavailableError("the server is shutting down"));
  }
};

Pipeline::Pipeline(const Options& options, DecodeFunction decode, Clock& clock)
    : decode_(std::move(decode)),
      clock_(clock),
      cache_(options.cache),
      max_decode_(options.max_decode),
      pixels_(options.pixels),
      count_pixels_(options.count_pixels),
      gate_(std::make_shared<Gate>()),
      pool_(options.decode_threads, options.prepare_decode_thread, clock) {}

Pipeline::~Pipeline() {
  MutexLock lock(gate_->mu);
  gate_->open = false;
}

absl::StatusOr<Image> Pipeline::Decode(absl::string_view bytes, const Job& job) const {
  const TimePoint start = clock_.Now();
  auto proceed = [this, start, &job]() -> absl::Status {
    const TimePoint now = clock_.Now();
    if (now - start > max_decode_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("decoding the photo takes more than ", Milliseconds(max_decode_),
                       " ms (--max-decode-ms); send a smaller one"));
    }
    absl::Status status = job.context.Abandoned(now);
    if (!status.ok()) job.model.metrics().CountAbandoned(status);
    return status;
  };
  return decode_(bytes, job.model.info().input, proceed, job.model.photo_memory());
}

absl::StatusOr<Pipeline::Prepared> Pipeline::Prepare(const Job& job) const {
  const InputSpec& spec = job.model.info().input;
  Prepared prepared;
  if (const auto* normalized = std::get_if<NormalizedPhoto>(&job.photo)) {
    DLA_ASSIGN_OR_RETURN(prepared.normalized, CopyNormalized(normalized->values, spec));
  } else if (const auto* raw = std::get_if<RawPhoto>(&job.photo)) {
    const bool fits = raw->height == spec.height && raw->width == spec.width;
    std::shared_ptr<PixelMemory> memory = job.model.photo_memory();
    Image image{
        .height = raw->height,
        .width = raw->width,
        .pixels = Pixels(raw->pixels.begin(), raw->pixels.end(),
                         fits ? PixelAllocator<uint8_t>(memory) : PixelAllocator<uint8_t>())};
    if (fits) {
      prepared.pixels = std::move(image);
    } else {
      DLA_ASSIGN_OR_RETURN(prepared.pixels, ResizeAndCrop(image, spec, std::move(memory)));
    }
  } else {
    DLA_ASSIGN_OR_RETURN(prepared.pixels, Decode(std::get<EncodedPhoto>(job.photo).bytes, job));
  }
  return prepared;
}

void Pipeline::Submit(std::shared_ptr<ServedModel> model, PhotoSource photo, PhotoContext context) {
  ModelMetrics& metrics = model->metrics();
  metrics.in_flight->Increment();
  context.done = [model, arrived = clock_.Now(), &clock = clock_,
                  done = std::move(context.done)](absl::StatusOr<Answer> answer) mutable {
    model->metrics().in_flight->Decrement();
    if (answer.ok() && answer->timing.cached) {
      model->statistics().AddCacheHit(clock.Now() - arrived);
    }
    std::move(done)(std::move(answer));
  };

  Job job = {*model, photo, std::move(context)};
  if (absl::Status status = Admit(job); !status.ok()) {
    Refuse(std::move(job), std::move(status));
    return;
  }
  const Caller turn = job.turn();
  pool_.Submit(turn, [this, job = std::move(job)]() mutable { Start(std::move(job)); });
}

absl::Status Pipeline::Admit(Job& job) const {
  DLA_RETURN_IF_ERROR(job.model.health().CheckAvailable());
  const Caller& caller = job.context.caller;
  auto wait = [&] {
    return std::max(pool_.PredictedWait(job.turn()), job.model.PredictedWait(caller));
  };
  auto refused = [&](Refusal reason, absl::Status status) {
    job.model.metrics().CountRefused(reason);
    return WithRetryInfo(std::move(status), wait());
  };
  if (job.context.deadline != TimePoint::max()) {
    const Duration left = job.context.deadline - clock_.Now();
    if (const Duration expected = wait(); expected > left) {
      return refused(Refusal::kDeadline,
                     absl::DeadlineExceededError(absl::StrCat(
                         "the wait is ", Milliseconds(expected), " ms, the deadline in ",
                         Milliseconds(left), " ms; allow more time or send less")));
    }
  }
  absl::StatusOr<Budget::Share> place = job.model.places().Take(caller, 1);
  if (!place.ok()) return refused(Refusal::kQueue, place.status());
  job.place = *std::move(place);
  absl::Status status = TakePixels(job);
  return absl::IsResourceExhausted(status) ? refused(Refusal::kPixels, std::move(status)) : status;
}

absl::Status Pipeline::TakePixels(Job& job) const {
  int64_t pixels = 0;
  if (const auto* raw = std::get_if<RawPhoto>(&job.photo)) {
    pixels = int64_t{raw->height} * raw->width;
  } else if (const auto* encoded = std::get_if<EncodedPhoto>(&job.photo);
             encoded && count_pixels_) {
    DLA_ASSIGN_OR_RETURN(pixels, count_pixels_(encoded->bytes));
  }
  for (Budget* budget : {pixels_, &job.model.budgets().pixels}) {
    if (budget == nullptr) continue;
    DLA_ASSIGN_OR_RETURN(Budget::Share share, budget->Take(job.context.caller, pixels));
    job.pixels.Add(std::move(share));
  }
  return absl::OkStatus();
}

void Pipeline::Start(Job job) {
  if (absl::Status status = job.context.Abandoned(clock_.Now()); !status.ok()) {
    job.model.metrics().CountAbandoned(status);
    Refuse(std::move(job), std::move(status));
  } else if (cache_ != nullptr && job.model.options().cache) {
    AskCache(std::move(job));
  } else {
    Compute(std::move(job));
  }
}

void Pipeline::AskCache(Job job) {
  const absl::StatusOr<ResponseKey> key = ResponseKeyOf(job.model, job.photo, job.context.options);
  if (!key.ok()) return Compute(std::move(job));
  ModelMetrics& metrics = job.model.metrics();
  PhotoContext context = std::move(job.context);
  const TimePoint asked = clock_.Now();
  cache_->Serve(*key, metrics, std::move(context),
                [this, asked, &clock = clock_, gate = gate_, job = std::move(job)](
                    PhotoContext mine, ResponseCache::Turn turn) mutable {
                  job.model.statistics().AddCacheMiss(clock.Now() - asked);
                  job.context = std::move(mine);
                  if (turn == ResponseCache::Turn::kNow) {
                    Compute(std::move(job));
                  } else {
                    gate->Resume(*this, std::move(job));
                  }
                });
}

void Pipeline::Compute(Job job) {
  const TimePoint start = clock_.Now();
  absl::StatusOr<Prepared> prepared = Prepare(job);
  const Duration took = clock_.Now() - start;
  job.pixels.Return();
  if (!prepared.ok()) {
    Refuse(std::move(job), prepared.status());
    return;
  }
  job.model.metrics().decode_seconds->Observe(Seconds(took));
  job.model.queue().Push({.context = std::move(job.context),
                          .place = std::move(job.place),
                          .pixels = std::move(prepared->pixels),
                          .normalized = std::move(prepared->normalized),
                          .decode = took});
}

}  // namespace dla::server
