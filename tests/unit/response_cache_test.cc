// The response cache behind the pipeline, on a fake model.
#include "server/response_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "server/pipeline.h"
#include "server/reaper.h"
#include "tests/support/ask.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"

namespace dla::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Future = std::future<absl::StatusOr<Answer>>;

class ResponseCacheTest : public ::testing::Test {
 protected:
  void Start(int64_t max_bytes = 1 << 20, const ServedModel::Options& options = {}) {
    cache_ = std::make_unique<ResponseCache>(max_bytes, metrics_, clock_);
    Load("1", options);
    pipeline_ = std::make_unique<Pipeline>(
        Pipeline::Options{.decode_threads = decode_threads_, .cache = cache_.get()},
        [this](absl::string_view bytes, const InputSpec& spec, const Proceed& proceed,
               const std::shared_ptr<PixelMemory>& memory) {
          ++decoded_;
          return FakeDecode(bytes, spec, proceed, memory);
        },
        clock_);
  }

  void Load(const std::string& version, const ServedModel::Options& options = {}) {
    auto model = std::make_unique<FakeModel>();
    fake_ = model.get();
    loaded_.push_back(reaper_.Share(
        std::make_unique<ServedModel>("m", version, std::move(model), options, metrics_, clock_)));
    served_ = loaded_.back().get();
  }

  // The photo must outlive the future.
  Future Classify(PhotoSource photo, ClassifyOptions options = {.top_k = 2},
                  std::shared_ptr<const CancelFlag> cancelled = nullptr,
                  TimePoint deadline = TimePoint::max()) {
    return Ask(*pipeline_, loaded_.back(), photo,
               {.options = options, .deadline = deadline, .cancelled = std::move(cancelled)});
  }
  Future Classify(absl::string_view bytes, ClassifyOptions options = {.top_k = 2},
                  std::shared_ptr<const CancelFlag> cancelled = nullptr,
                  TimePoint deadline = TimePoint::max()) {
    return Classify(PhotoSource(EncodedPhoto{bytes}), options, std::move(cancelled), deadline);
  }

  // Whether an answer came from the cache; it must be one.
  bool Cached(Future future) {
    const absl::StatusOr<Answer> answer = future.get();
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() && answer->timing.cached;
  }

  ModelMetrics& Counters() { return served_->metrics(); }
  double Evictions() { return metrics_.ForCache()->evictions->Value(); }
  double Bytes() { return metrics_.ForCache()->bytes->Value(); }
  double Entries() { return metrics_.ForCache()->entries->Value(); }

  // Blocks until all photos so far have asked the cache: with one decode thread they do so in turn.
  void AwaitAsked() {
    ASSERT_EQ(decode_threads_, 1);
    EXPECT_EQ(Classify("bad").get().status().code(), absl::StatusCode::kInvalidArgument);
  }

  int decode_threads_ = 1;
  FakeClock clock_;
  Metrics metrics_;
  std::unique_ptr<ResponseCache> cache_;
  FakeModel* fake_ = nullptr;
  std::atomic<int> decoded_ = 0;
  Reaper reaper_;
  std::vector<std::shared_ptr<ServedModel>> loaded_;
  ServedModel* served_ = nullptr;  // the last one
  std::unique_ptr<Pipeline> pipeline_;
};

TEST_F(ResponseCacheTest, AnswersAnEqualPhotoWithoutTheModel) {
  Start();
  const absl::StatusOr<Answer> first = Classify("\x02", {.top_k = 2, .include_logits = true}).get();
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->timing.cached);
  const std::string equal = "\x02";
  const absl::StatusOr<Answer> again = Classify(equal, {.top_k = 2, .include_logits = true}).get();
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->timing.cached);
  EXPECT_EQ(again->timing.batch_size, 0);
  ASSERT_EQ(again->classes.size(), 2u);
  EXPECT_EQ(again->classes[0].index, 2);
  EXPECT_EQ(again->logits, first->logits);
  EXPECT_THAT(fake_->batches(), ElementsAre(1));
  EXPECT_EQ(decoded_, 1);
  EXPECT_EQ(Counters().cache_hits->Value(), 1);
  EXPECT_EQ(Counters().cache_misses->Value(), 1);
  EXPECT_EQ(Counters().in_flight->Value(), 0);
  EXPECT_EQ(Entries(), 1);
  EXPECT_GT(Bytes(), 0);
}

TEST_F(ResponseCacheTest, AHitGivesItsPlaceInTheQueueBackBeforeItAnswers) {
  Start();
  EXPECT_FALSE(Cached(Classify("\x01")));
  std::promise<size_t> reserved;
  pipeline_->Submit(loaded_.back(), EncodedPhoto{"\x01"},
                    {.options = {.top_k = 2}, .done = [&](absl::StatusOr<Answer>) {
                       reserved.set_value(served_->places().used());
                     }});
  EXPECT_EQ(reserved.get_future().get(), 0u);
}

TEST_F(ResponseCacheTest, EverythingThatAnAnswerDependsOnIsInTheKey) {
  Start();
  const std::string photo(12, '\x01');
  const ClassifyOptions plain = {.top_k = 2};
  std::set<ResponseKey> keys;
  const auto add = [&](const PhotoSource& source, const ClassifyOptions& options) {
    keys.insert(ResponseKeyOf(*served_, source, options).value());
  };
  add(EncodedPhoto{photo}, plain);
  add(EncodedPhoto{photo}, plain);
  ASSERT_EQ(keys.size(), 1u);
  add(EncodedPhoto{absl::string_view(photo).substr(1)}, plain);
  add(RawPhoto{.pixels = photo, .height = 2, .width = 2}, plain);
  add(RawPhoto{.pixels = photo, .height = 1, .width = 4}, plain);
  add(NormalizedPhoto{photo}, plain);
  add(EncodedPhoto{photo}, {.top_k = 3});
  add(EncodedPhoto{photo}, {.top_k = 2, .include_embedding = true});
  add(EncodedPhoto{photo}, {.top_k = 2, .include_embedding = true, .normalize_embedding = true});
  add(EncodedPhoto{photo}, {.top_k = 2, .include_logits = true});
  add(EncodedPhoto{photo}, {.top_k = 2, .include_probabilities = true});
  EXPECT_EQ(keys.size(), 10u);
  Load("2");
  add(EncodedPhoto{photo}, plain);
  Load("2");  // loaded once more
  add(EncodedPhoto{photo}, plain);
  EXPECT_EQ(keys.size(), 12u);
}

TEST_F(ResponseCacheTest, AReloadedVersionGivesNoOlderAnswer) {
  Start();
  EXPECT_FALSE(Cached(Classify("\x01")));
  Load("1");
  EXPECT_FALSE(Cached(Classify("\x01")));
  EXPECT_THAT(fake_->batches(), ElementsAre(1));
  EXPECT_TRUE(Cached(Classify("\x01")));
}

TEST_F(ResponseCacheTest, AModelMayStayOutOfIt) {
  Start(1 << 20, {.cache = false});
  EXPECT_FALSE(Cached(Classify("\x01")));
  EXPECT_FALSE(Cached(Classify("\x01")));
  EXPECT_THAT(fake_->batches(), ElementsAre(1, 1));
  EXPECT_EQ(Counters().cache_misses->Value(), 0);
}

TEST_F(ResponseCacheTest, DropsWhatWasNotAskedForLongestWhenItIsFull) {
  Start();
  EXPECT_FALSE(Cached(Classify("\x01")));
  const auto one = static_cast<int64_t>(Bytes());
  pipeline_.reset();
  Start(2 * one + one / 2);
  EXPECT_FALSE(Cached(Classify("\x01")));
  EXPECT_FALSE(Cached(Classify("\x02")));
  EXPECT_TRUE(Cached(Classify("\x01")));
  EXPECT_EQ(Evictions(), 0);
  EXPECT_FALSE(Cached(Classify("\x03")));  // 2 goes
  EXPECT_EQ(Evictions(), 1);
  EXPECT_TRUE(Cached(Classify("\x01")));
  EXPECT_TRUE(Cached(Classify("\x03")));
  EXPECT_FALSE(Cached(Classify("\x02")));
  EXPECT_EQ(Entries(), 2);
  EXPECT_LE(Bytes(), 2 * one + one / 2);
}

TEST_F(ResponseCacheTest, KeepsNoAnswerThatIsLargerThanItself) {
  Start(10);
  EXPECT_FALSE(Cached(Classify("\x01")));
  EXPECT_FALSE(Cached(Classify("\x01")));
  EXPECT_EQ(Entries(), 0);
}

TEST_F(ResponseCacheTest, EqualPhotosAtOnceRunTheModelOnce) {
  decode_threads_ = 4;
  Start();
  fake_->Hold();
  std::vector<Future> answers(100);
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&, t] {
      for (int i = t; i < 100; i += 4) answers[i] = Classify("\x03");
    });
  }
  fake_->AwaitRuns(1);
  for (std::thread& caller : callers) caller.join();
  fake_->Release();
  int cached = 0;
  for (Future& answer : answers) cached += Cached(std::move(answer));
  EXPECT_EQ(cached, 99);
  EXPECT_THAT(fake_->batches(), ElementsAre(1));
  EXPECT_EQ(decoded_, 1);
  EXPECT_EQ(Counters().cache_hits->Value(), 99);
  EXPECT_EQ(served_->places().used(), 0);
}

// One replica that is busy with another photo, so that what comes next stays in the queue.
class BusyModelTest : public ResponseCacheTest {
 protected:
  void SetUp() override {
    Start();
    fake_->Hold();
    running_ = Classify("\x01");
    fake_->AwaitRuns(1);
  }
  void TearDown() override {
    fake_->Release();
    EXPECT_TRUE(running_.get().ok());
  }

  Future running_;
};

TEST_F(BusyModelTest, TheNextOneComputesWhenTheFirstIsCancelled) {
  const auto cancelled = std::make_shared<CancelFlag>(false);
  Future first = Classify("\x02", {.top_k = 2}, cancelled);
  Future gone = Classify("\x02", {.top_k = 2}, cancelled);
  Future next = Classify("\x02");
  Future last = Classify("\x02");
  AwaitAsked();
  cancelled->store(true);
  fake_->Release();
  EXPECT_EQ(first.get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(gone.get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(Cached(std::move(next)));
  EXPECT_TRUE(Cached(std::move(last)));
  EXPECT_THAT(fake_->batches(), ElementsAre(1, 1));
}

TEST_F(BusyModelTest, TheNextOneComputesWhenTheFirstIsTooLate) {
  Future first = Classify("\x02", {.top_k = 2}, nullptr, clock_.Now() + std::chrono::seconds(1));
  Future next = Classify("\x02");
  AwaitAsked();
  clock_.Advance(std::chrono::seconds(1));
  fake_->Release();
  EXPECT_EQ(first.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(Cached(std::move(next)));
}

TEST_F(BusyModelTest, AfterAllHaveGoneAnEqualPhotoIsComputedAnew) {
  const auto cancelled = std::make_shared<CancelFlag>(false);
  Future first = Classify("\x02", {.top_k = 2}, cancelled);
  Future second = Classify("\x02", {.top_k = 2}, cancelled);
  AwaitAsked();
  cancelled->store(true);
  fake_->Release();
  EXPECT_EQ(first.get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(second.get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(Cached(Classify("\x02")));
}

TEST_F(BusyModelTest, WhoWaitsKeepsItsOwnDeadlineAndCancellation) {
  const auto cancelled = std::make_shared<CancelFlag>(false);
  Future first = Classify("\x02");
  Future late = Classify("\x02", {.top_k = 2}, nullptr, clock_.Now() + std::chrono::seconds(1));
  Future gone = Classify("\x02", {.top_k = 2}, cancelled);
  AwaitAsked();
  clock_.Advance(std::chrono::seconds(1));
  cancelled->store(true);
  fake_->Release();
  EXPECT_TRUE(first.get().ok());
  EXPECT_EQ(late.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(gone.get().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(BusyModelTest, AFailedModelAnswersAllThatWaitAndIsNotRemembered) {
  Future first = Classify("\x02");
  Future second = Classify("\x02");
  AwaitAsked();
  fake_->InjectFault([](const std::vector<int>& marks) {  // of all but the replica's trial
    return marks[0] == 0 ? absl::OkStatus() : absl::InternalError("device lost");
  });
  fake_->Release();
  EXPECT_EQ(first.get().status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(second.get().status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(running_.get().status().code(), absl::StatusCode::kInternal);
  fake_->InjectFault(nullptr);
  running_ = Classify("\x01");
  EXPECT_FALSE(Cached(Classify("\x02")));
}

TEST_F(BusyModelTest, ThoseThatWaitAreAnsweredThoughThePipelineHasGone) {
  const auto cancelled = std::make_shared<CancelFlag>(false);
  Future first = Classify("\x02", {.top_k = 2}, cancelled);
  Future second = Classify("\x02");
  Future third = Classify("\x02");
  AwaitAsked();
  pipeline_.reset();
  cancelled->store(true);
  fake_->Release();
  EXPECT_EQ(first.get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(second.get().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(third.get().status().code(), absl::StatusCode::kUnavailable);
}

// The cache alone, with a photo of which the test says when and how it ends.
TEST_F(ResponseCacheTest, APhotoThatCannotBeReadAnswersAllThatWait) {
  Start();
  const ResponseKey key = {1};
  std::vector<absl::Status> answers;
  std::optional<PhotoContext> leader;
  const auto serve = [&] {
    cache_->Serve(key, Counters(),
                  {.done = [&](absl::StatusOr<Answer> a) { answers.push_back(a.status()); }},
                  [&](PhotoContext context, ResponseCache::Turn turn) {
                    EXPECT_EQ(turn, ResponseCache::Turn::kNow);
                    leader.emplace(std::move(context));
                  });
  };
  serve();
  ASSERT_TRUE(leader.has_value());
  serve();
  serve();
  EXPECT_THAT(answers, IsEmpty());
  std::move(leader->done)(absl::InvalidArgumentError("not a photo"));
  ASSERT_EQ(answers.size(), 3u);
  for (const absl::Status& status : answers) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("not a photo"));
  }
  leader.reset();
  serve();
  EXPECT_TRUE(leader.has_value());  // not kept
  std::move(leader->done)(Answer());
}

}  // namespace
}  // namespace dla::server
