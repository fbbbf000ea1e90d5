#include "server/replica.h"

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics.h"
#include "server/model_statistics.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

using Photos = std::vector<BatchQueue::Item>;

constexpr Duration kFirstPause = std::chrono::seconds(1);
constexpr Duration kLongestPause = std::chrono::seconds(30);

Duration PauseAfter(int setbacks) {
  return std::min(kLongestPause, kFirstPause * (1 << std::min(setbacks - 1, 10)));
}

// The larger half first; one photo is one half.
std::deque<Photos> Halves(Photos photos) {
  const auto middle = photos.begin() + static_cast<ptrdiff_t>((photos.size() + 1) / 2);
  std::deque<Photos> halves;
  if (middle != photos.end()) {
    halves.emplace_back(std::make_move_iterator(middle), std::make_move_iterator(photos.end()));
  }
  photos.erase(middle, photos.end());
  halves.push_front(std::move(photos));
  return halves;
}

void AnswerAll(Photos photos, const absl::Status& status) {
  for (BatchQueue::Item& photo : photos) std::move(photo.context.done)(status);
}

// Nothing where the answer holds no probability, as of those who ask for the embedding alone.
std::optional<float> Top1(const Answer& answer) {
  if (!answer.classes.empty()) return answer.classes.front().probability;
  if (answer.probabilities.empty()) return std::nullopt;
  return *std::max_element(answer.probabilities.begin(), answer.probabilities.end());
}

absl::Status Unloaded() { return absl::UnavailableError("the model is being unloaded; try again"); }

// Everything of the photos except the memory of their pixels, which a pass may still read. Without
// memory for copies they are answered.
Photos TakeButPixels(Photos& photos) {
  Photos taken;
  for (BatchQueue::Item& photo : photos) {
    try {
      Image pixels = photo.pixels;
      std::vector<float> normalized = photo.normalized;
      taken.push_back(std::move(photo));
      // Vectors that are moved keep their memory where it is.
      // NOLINTNEXTLINE(bugprone-use-after-move): what was moved is filled again
      photo.pixels = std::exchange(taken.back().pixels, std::move(pixels));
      photo.normalized = std::exchange(taken.back().normalized, std::move(normalized));
    } catch (const std::bad_alloc&) {
      std::move(photo.context.done)(
          absl::ResourceExhaustedError("out of memory for a second attempt"));
    }
  }
  return taken;
}

}  // namespace

void Pace::Record(Duration batch, int photos) {
  const double sample = Seconds(batch) / photos;
  const double old = seconds_per_photo();
  // A lost update between replicas only makes the average a little older.
  seconds_per_photo_.store(old == 0 ? sample : 0.8 * old + 0.2 * sample, std::memory_order_relaxed);
}

bool Pauses::Wait(Duration pause) {
  const TimePoint end = clock_.Now() + pause;
  MutexLock lock(mu_);
  while (!stopped_ && clock_.Now() < end) clock_.WaitUntil(stop_, mu_, end);
  return !stopped_;
}

void Pauses::Stop() {
  {
    MutexLock lock(mu_);
    stopped_ = true;
  }
  stop_.NotifyAll();
}

Replica::Replica(std::shared_ptr<const Model> model, const ReplicaContext& context, Estate estate)
    : model_(std::move(model)),
      context_(context),
      pass_(model_),
      broken_(estate.rebuild),
      halves_(std::move(estate.halves)),
      rescued_(estate.rescued),
      setbacks_(estate.setbacks),
      state_(estate.state) {}

bool Replica::Work() {
  if (!broken_) broken_ = !pass_.Prepare(context_.compute_threads).status.ok();
  Next next = Next::kGoOn;
  while (next == Next::kGoOn) next = broken_ ? Rebuild() : Step();
  return next == Next::kStop;
}

Replica::Next Replica::Step() {
  const bool second = !halves_.empty();
  Photos photos;
  if (second) {
    photos = std::move(halves_.front());
    halves_.pop_front();
  } else {
    photos = context_.queue.NextBatch();
    if (photos.empty()) return Next::kStop;
  }
  return Run(std::move(photos), second) ? Next::kGoOn : Next::kTaken;
}

bool Replica::Run(Photos photos, bool second) {
  if (second) {
    photos = StillWaitedFor(std::move(photos));
    if (photos.empty()) return true;
    context_.metrics.batch_retries->Increment();
  }
  PassResult result = pass_.SetPhotos(photos);
  if (!result.status.ok()) {
    Fail(std::move(photos), second, result);
    return true;
  }
  running_ = std::move(photos);
  second_ = second;
  context_.metrics.replicas_busy->Increment();
  const TimePoint start = context_.clock.Now();
  if (!Begin(start)) {
    AnswerAll(std::move(running_), Unloaded());
    return true;
  }
  result = pass_.Run();
  if (!claim_.End()) return false;
  const Duration inference = context_.clock.Now() - start;
  context_.metrics.replicas_busy->Decrement();
  photos = std::move(running_);
  running_.clear();
  if (result.status.ok()) {
    AnswerPhotos(std::move(photos), start, inference);
  } else {
    Fail(std::move(photos), second, result);
  }
  return true;
}

bool Replica::Begin(TimePoint start) {
  const Duration timeout = context_.batch_timeout;
  if (timeout == Duration::zero()) return claim_.Begin(TimePoint::max());
  if (!claim_.Begin(start + timeout)) return false;
  context_.watchdog->Begun();
  return true;
}

Photos Replica::StillWaitedFor(Photos photos) {
  const TimePoint now = context_.clock.Now();
  Photos waited_for;
  for (BatchQueue::Item& photo : photos) {
    if (absl::Status status = photo.context.Abandoned(now); !status.ok()) {
      context_.metrics.CountAbandoned(status);
      std::move(photo.context.done)(std::move(status));
    } else {
      waited_for.push_back(std::move(photo));
    }
  }
  return waited_for;
}

void Replica::AnswerPhotos(Photos photos, TimePoint start, Duration inference) {
  rescued_ = true;
  setbacks_ = 0;
  context_.health.Succeeded();
  const int batch_size = static_cast<int>(photos.size());
  context_.pace.Record(inference, batch_size);
  context_.metrics.inference_seconds->Observe(Seconds(inference));
  context_.metrics.batch_size->Observe(batch_size);
  if (pass_.times().has_value()) context_.metrics.ObserveStages(*pass_.times());
  BatchTimes times{.photos = batch_size, .inference = inference};
  for (size_t i = 0; i < photos.size(); ++i) {
    BatchQueue::Item& photo = photos[i];
    const TimePoint output_start = context_.clock.Now();
    absl::StatusOr<Answer> answer = pass_.AnswerOf(i, photo.context.options);
    times.output += context_.clock.Now() - output_start;
    times.decode += photo.decode;
    times.queue += start - photo.enqueued;
    // Before the caller can ask for them.
    if (i + 1 == photos.size()) context_.statistics.AddBatch(times);
    if (answer.ok()) {
      answer->timing = {.decode = photo.decode,
                        .queue = start - photo.enqueued,
                        .inference = inference,
                        .batch_size = batch_size};
      if (const auto top1 = Top1(*answer)) context_.metrics.top1_probability->Observe(*top1);
    }
    context_.metrics.queue_seconds->Observe(Seconds(start - photo.enqueued));
    std::move(photo.context.done)(std::move(answer));
  }
}

void Replica::Fail(Photos photos, bool second, const PassResult& result) {
  context_.metrics.CountBatchFailure(result.failure);
  spdlog::warn("model={} photos={} attempt={} forward pass failed: {}", context_.name,
               photos.size(), second ? 2 : 1, std::string(result.status.message()));
  if (result.failure == BatchFailure::kException) broken_ = true;
  if (result.failure == BatchFailure::kOutOfMemory) {
    if (const int lower = context_.queue.LowerMaxBatch(static_cast<int>(photos.size()))) {
      context_.metrics.max_batch->Set(lower);
      spdlog::warn("model={} max_batch={} until it is loaded again: memory ran out", context_.name,
                   lower);
    }
  }
  if (second) {
    FailHalf(std::move(photos), result.status);
  } else {
    rescued_ = false;
    halves_ = Halves(std::move(photos));
  }
}

void Replica::FailHalf(Photos photos, const absl::Status& status) {
  // The last one, and none of the batch was rescued.
  if (halves_.empty() && !rescued_) {
    broken_ = true;
    context_.health.Failed(status);
    // While batch after batch is lost a trial alone proves little.
    if (!context_.health.healthy()) ++setbacks_;
  }
  AnswerAll(std::move(photos),
            absl::Status(status.code(), absl::StrCat(status.message(), " (second attempt)")));
}

void Replica::Move(ReplicaState state, absl::string_view why) {
  context_.health.Move(std::exchange(state_, state), state, why);
}

void Replica::RefuseHalves(const absl::Status& why) {
  for (Photos& photos : std::exchange(halves_, {})) {
    AnswerAll(std::move(photos),
              absl::UnavailableError(
                  absl::StrCat("the replica failed and could not be restarted: ", why.message())));
  }
}

Replica::Next Replica::Rebuild() {
  context_.metrics.replica_restarts->Increment();
  for (;;) {
    Move(setbacks_ > 0 ? ReplicaState::kFailing : ReplicaState::kRecovering);
    if (setbacks_ > 0 && !context_.pauses.Wait(PauseAfter(setbacks_))) {
      RefuseHalves(Unloaded());
      return Next::kStop;
    }
    trial_ = true;
    if (!Begin(context_.clock.Now())) return Next::kStop;
    const PassResult result = pass_.Trial(context_.compute_threads);
    if (!claim_.End()) return Next::kTaken;
    trial_ = false;
    if (result.status.ok()) {
      broken_ = false;
      Move(ReplicaState::kWorking);
      return Next::kGoOn;
    }
    ++setbacks_;
    spdlog::warn("model={} trial pass failed: {}", context_.name,
                 std::string(result.status.message()));
    Move(ReplicaState::kFailing, result.status.message());
    RefuseHalves(result.status);
  }
}

std::optional<Replica::Estate> Replica::TakeAway(TimePoint latest) {
  if (!claim_.Take(latest)) return std::nullopt;
  const absl::Status hung = absl::InternalError(absl::StrCat(
      "the forward pass did not end within ",
      std::chrono::duration_cast<std::chrono::milliseconds>(context_.batch_timeout).count(),
      " ms"));
  if (trial_) {
    spdlog::error("model={} trial pass hangs", context_.name);
    ++setbacks_;
    Move(ReplicaState::kFailing, hung.message());
    RefuseHalves(hung);
  } else {
    context_.metrics.replicas_busy->Decrement();
    Photos photos = TakeButPixels(running_);
    if (!photos.empty()) Fail(std::move(photos), second_, {hung, BatchFailure::kTimeout});
  }
  return Estate{.rebuild = true,
                .halves = std::move(halves_),
                .rescued = rescued_,
                .setbacks = setbacks_,
                .state = state_};
}

bool Replica::Abandon() {
  if (!claim_.Close()) return false;
  if (!trial_) {
    AnswerAll(TakeButPixels(running_), Unloaded());
  }
  return true;
}

}  // namespace dla::server
