// Queue, replicas and pipeline together, on a fake model.
#include "server/served_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "server/pipeline.h"
#include "server/reaper.h"
#include "tests/support/ask.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"

namespace dla::server {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ServedModelTest : public ::testing::Test {
 protected:
  ServedModel& Start(const ServedModel::Options& options) {
    auto model = std::make_unique<FakeModel>();
    fake_ = model.get();
    served_ = reaper_.Share(
        std::make_unique<ServedModel>("m", "1", std::move(model), options, metrics_, clock_));
    pipeline_ =
        std::make_unique<Pipeline>(Pipeline::Options{.decode_threads = 2}, FakeDecode, clock_);
    return *served_;
  }

  // `photo` outlives the future.
  std::future<absl::StatusOr<Answer>> Classify(
      absl::string_view photo, ClassifyOptions options = {.top_k = 2},
      std::shared_ptr<const CancelFlag> cancelled = nullptr,
      TimePoint deadline = TimePoint::max()) {
    return Submit(EncodedPhoto{photo}, options, std::move(cancelled), deadline);
  }

  std::future<absl::StatusOr<Answer>> Submit(PhotoSource photo, ClassifyOptions options = {},
                                             std::shared_ptr<const CancelFlag> cancelled = nullptr,
                                             TimePoint deadline = TimePoint::max()) {
    return Ask(*pipeline_, served_, photo,
               {.options = options, .deadline = deadline, .cancelled = std::move(cancelled)});
  }

  FakeClock clock_;
  Metrics metrics_;
  FakeModel* fake_ = nullptr;
  Reaper reaper_;
  std::shared_ptr<ServedModel> served_;
  std::unique_ptr<Pipeline> pipeline_;
};

TEST_F(ServedModelTest, AnswersWithTheMostProbableClasses) {
  Start({});
  absl::StatusOr<Answer> answer = Classify("\x02").get();
  ASSERT_TRUE(answer.ok());
  ASSERT_EQ(answer->classes.size(), 2u);
  EXPECT_EQ(answer->classes[0].index, 2);
  EXPECT_GT(answer->classes[0].probability, 0.99f);
  EXPECT_TRUE(answer->embedding.empty());
  EXPECT_EQ(answer->timing.batch_size, 1);
}

TEST_F(ServedModelTest, ReturnsTheEmbeddingWhenAskedFor) {
  Start({});
  absl::StatusOr<Answer> plain = Classify("\x03", {.top_k = 1, .include_embedding = true}).get();
  ASSERT_TRUE(plain.ok());
  EXPECT_THAT(plain->embedding, ElementsAre(3, 1));
  absl::StatusOr<Answer> unit =
      Classify("\x03", {.top_k = 1, .include_embedding = true, .normalize_embedding = true}).get();
  ASSERT_TRUE(unit.ok());
  EXPECT_NEAR(unit->embedding[0], 3 / std::sqrt(10.0), 1e-6);
}

TEST_F(ServedModelTest, BatchesWhatArrivesWhileTheReplicaIsBusy) {
  Start({.replicas = 1, .compute_threads = 1, .queue = {.max_batch = 4}});
  fake_->Hold();
  auto first = Classify("\x01");
  fake_->AwaitRuns(1);
  std::vector<std::future<absl::StatusOr<Answer>>> others;
  const char marks[] = {0, 1, 2, 3, 0};
  for (const char& mark : marks) others.push_back(Classify(absl::string_view(&mark, 1)));
  // Decoded on two threads: all are in the queue once none is being decoded any more.
  while (metrics_.ForModel("m", 4)->decode_seconds->Collect().histogram.sample_count < 6) {
    std::this_thread::yield();
  }
  fake_->Release();
  EXPECT_TRUE(first.get().ok());
  for (size_t i = 0; i < others.size(); ++i) {
    absl::StatusOr<Answer> answer = others[i].get();
    ASSERT_TRUE(answer.ok());
    EXPECT_EQ(answer->classes[0].index, marks[i]);
  }
  const std::vector<int> batches = fake_->batches();
  EXPECT_EQ(std::accumulate(batches.begin(), batches.end(), 0), 6);
  EXPECT_LE(*std::max_element(batches.begin(), batches.end()), 4);
  EXPECT_LE(batches.size(), 4u);
}

TEST_F(ServedModelTest, RunsAsManyBatchesAtOnceAsThereAreReplicas) {
  Start({.replicas = 3, .compute_threads = 1, .queue = {}});
  fake_->Hold();
  std::vector<std::future<absl::StatusOr<Answer>>> answers;
  for (int i = 1; i <= 3; ++i) {
    answers.push_back(Classify("\x01"));
    fake_->AwaitRuns(i);
  }
  fake_->Release();
  for (auto& answer : answers) EXPECT_TRUE(answer.get().ok());
}

TEST_F(ServedModelTest, TakesPhotosThatTheCallerNormalised) {
  Start({});
  const std::vector<float> values(3 * 2 * 2, 2);
  // Where a message put them, which may be anywhere.
  std::string message(1, '?');
  message.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  const auto answer = Submit(NormalizedPhoto{absl::string_view(message).substr(1)}).get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->classes[0].index, 2);
}

TEST_F(ServedModelTest, RefusesANormalisedPhotoOfAnotherSize) {
  Start({});
  for (const size_t size : {0, 47, 49, 96}) {
    const std::string bytes(size, '\0');
    const auto answer = Submit(NormalizedPhoto{bytes}).get();
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(answer.status().message()),
                AllOf(HasSubstr(absl::StrCat("of ", size, " bytes")), HasSubstr("takes 48")));
  }
  EXPECT_EQ(served_->places().used(), 0);
}

TEST_F(ServedModelTest, ABadPhotoFailsAlone) {
  Start({});
  auto good = Classify("\x01");
  auto bad = Classify("bad");
  EXPECT_EQ(bad.get().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(good.get().ok());
  EXPECT_EQ(served_->places().used(), 0);
}

TEST_F(ServedModelTest, TellsHowSureTheModelIsOfEachPhotoThatItClassified) {
  Start({});
  ASSERT_TRUE(Classify("\x01", {.top_k = 1}).get().ok());
  ASSERT_TRUE(Classify("\x02", {.top_k = 0, .include_probabilities = true}).get().ok());
  ASSERT_TRUE(Classify("\x09").get().ok());  // no class of the model: all are as probable
  ASSERT_TRUE(Classify("\x03", {.top_k = 0, .include_embedding = true}).get().ok());
  ASSERT_FALSE(Classify("bad").get().ok());
  const auto seen = served_->metrics().top1_probability->Collect().histogram;
  const double sure = std::exp(10) / (std::exp(10) + 3);
  EXPECT_EQ(seen.sample_count, 3u);
  EXPECT_NEAR(seen.sample_sum, 2 * sure + 0.25, 1e-6);
}

TEST_F(ServedModelTest, AFailedBatchReachesEveryWaiter) {
  Start({.replicas = 1,
         .compute_threads = 1,
         .queue = {.max_batch = 2, .max_delay = std::chrono::seconds(1)}});
  fake_->FailWith(absl::InternalError("device lost"));
  auto first = Classify("\x01");
  auto second = Classify("\x02");
  EXPECT_EQ(first.get().status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(second.get().status().message()), HasSubstr("device lost"));
}

TEST_F(ServedModelTest, AnUnequalNumberOfResultsIsAnErrorForTheWholeBatch) {
  Start({});
  fake_->DropHalfOfTheResults();
  absl::Status status = Classify("\x01").get().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 logits"));
}

TEST_F(ServedModelTest, RefusesAtTheDoorWhenTheQueueIsFull) {
  Start({.replicas = 1, .compute_threads = 1, .queue = {.max_batch = 1}, .queue_capacity = 2});
  fake_->Hold();
  auto running = Classify("\x01");
  fake_->AwaitRuns(1);
  auto second = Classify("\x01");
  auto third = Classify("\x01");
  absl::Status refused = Classify("\x01").get().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("of 2 (--queue-capacity)"));
  EXPECT_TRUE(refused.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
  EXPECT_EQ(served_->metrics().in_flight->Value(), 3);
  fake_->Release();
  EXPECT_TRUE(running.get().ok());
  EXPECT_TRUE(second.get().ok());
  EXPECT_TRUE(third.get().ok());
}

// The tests below know how long the model takes: 100 ms for a photo.
class BusyModelTest : public ServedModelTest {
 protected:
  // One photo runs and `waiting` ones of caller 1 are decoded and wait.
  void StartBusy(int waiting) {
    Start({.replicas = 1, .compute_threads = 1, .queue = {.max_batch = 1}});
    fake_->Hold();
    auto first = Classify("\x01");
    fake_->AwaitRuns(1);
    clock_.Advance(milliseconds(100));
    fake_->Release();
    ASSERT_TRUE(first.get().ok());
    fake_->Hold();
    answers_.push_back(AskAs({.client = 1}));
    fake_->AwaitRuns(2);
    for (int i = 0; i < waiting; ++i) answers_.push_back(AskAs({.client = 1}));
    while (served_->queue().Ahead({.client = 1}) < static_cast<size_t>(waiting)) {
      std::this_thread::yield();
    }
  }

  std::future<absl::StatusOr<Answer>> AskAs(Caller caller, Duration time = Duration::max(),
                                            PhotoSource photo = EncodedPhoto{"\x01"}) {
    const bool forever = time == Duration::max();
    return Ask(*pipeline_, served_, photo,
               {.caller = caller, .deadline = forever ? TimePoint::max() : clock_.Now() + time});
  }

  void ExpectAllAnswered() {
    fake_->Release();
    for (auto& answer : answers_) EXPECT_TRUE(answer.get().ok());
  }

  std::vector<std::future<absl::StatusOr<Answer>>> answers_;
};

TEST_F(BusyModelTest, RefusesAtTheDoorWhoseDeadlineIsBeforeItsTurn) {
  StartBusy(3);
  const absl::Status refused = AskAs({.client = 1}, milliseconds(299)).get().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("the wait is 300 ms"), HasSubstr("the deadline in 299 ms")));
  answers_.push_back(AskAs({.client = 1}, milliseconds(301)));
  ExpectAllAnswered();
  EXPECT_EQ(fake_->batches().size(), 6u);
}

TEST_F(BusyModelTest, ACallerWithNothingInTheQueueWaitsForOneTurnOnly) {
  StartBusy(50);
  answers_.push_back(AskAs({.client = 2}, milliseconds(101)));
  EXPECT_EQ(AskAs({.client = 3}, milliseconds(99)).get().status().code(),
            absl::StatusCode::kDeadlineExceeded);
  ExpectAllAnswered();
}

TEST_F(BusyModelTest, BulkPhotosExpectToWaitForInteractiveOnes) {
  StartBusy(7);
  const Caller bulk = {.client = 2, .priority = Priority::kBulk};
  EXPECT_EQ(AskAs(bulk, milliseconds(699)).get().status().code(),
            absl::StatusCode::kDeadlineExceeded);
  answers_.push_back(AskAs(bulk, milliseconds(701)));
  ExpectAllAnswered();
}

// However slow the model was: only by trying again is it known to have become faster.
TEST_F(BusyModelTest, RefusesNobodyWhileNothingWaits) {
  StartBusy(0);
  answers_.push_back(AskAs({.client = 1}, milliseconds(1)));
  ExpectAllAnswered();
}

TEST_F(ServedModelTest, BoundsThePixelsThatWaitToBeDecoded) {
  Start({.replicas = 1,
         .compute_threads = 1,
         .queue = {},
         .queue_capacity = 512,
         .budgets = {.pixels = 1000}});
  const std::string small(30 * 30 * 3, '\1'), large(40 * 40 * 3, '\1');
  const absl::Status refused = Submit(RawPhoto{large, 40, 40}).get().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(
      std::string(refused.message()),
      HasSubstr("1600 more pixels to decode: of 1000 (--model-max-pixels-in-flight) 1000 are"));
  EXPECT_TRUE(refused.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
  // Free again once a photo is decoded.
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Submit(RawPhoto{small, 30, 30}).get().ok());
  EXPECT_EQ(served_->budgets().pixels.used(), 0);
  EXPECT_EQ(served_->places().used(), 0);
}

TEST_F(ServedModelTest, GivesUpAPhotoThatTakesTooLongToDecode) {
  Start({});
  pipeline_ = std::make_unique<Pipeline>(
      Pipeline::Options{.max_decode = milliseconds(50)},
      [&](absl::string_view bytes, const InputSpec& spec, const Proceed& proceed,
          const std::shared_ptr<PixelMemory>& memory) {
        clock_.Advance(milliseconds(bytes == "\x01" ? 50 : 51));
        return FakeDecode(bytes, spec, proceed, memory);
      },
      clock_);
  EXPECT_TRUE(Classify("\x01").get().ok());
  const absl::Status status = Classify("\x02").get().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("more than 50 ms (--max-decode-ms)"));
  EXPECT_EQ(served_->places().used(), 0);
}

TEST_F(ServedModelTest, StopsDecodingForACallerWhoLeaves) {
  Start({});
  auto cancelled = std::make_shared<CancelFlag>(false);
  int asked = 0;
  pipeline_ = std::make_unique<Pipeline>(
      Pipeline::Options{},
      [&](absl::string_view, const InputSpec&, const Proceed& proceed,
          const std::shared_ptr<PixelMemory>&) -> absl::StatusOr<Image> {
        for (;;) {
          if (absl::Status status = proceed(); !status.ok()) return status;
          if (++asked == 3) cancelled->store(true);
        }
      },
      clock_);
  EXPECT_EQ(Classify("\x01", {}, cancelled).get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(fake_->batches().size(), 0u);
}

TEST_F(ServedModelTest, AFloodOfOneModelDoesNotHoldUpTheDecodingForAnother) {
  Start({});
  auto other = reaper_.Share(std::make_unique<ServedModel>(
      "other", "1", std::make_unique<FakeModel>(), ServedModel::Options{}, metrics_, clock_));
  Mutex mu;
  CondVar changed;
  bool held = true;
  std::string order;
  pipeline_ = std::make_unique<Pipeline>(
      Pipeline::Options{},
      [&](absl::string_view bytes, const InputSpec& spec, const Proceed& proceed,
          const std::shared_ptr<PixelMemory>& memory) {
        MutexLock lock(mu);
        order += std::string(bytes);
        changed.NotifyAll();
        while (held) changed.Wait(mu);
        return FakeDecode("\x01", spec, proceed, memory);
      },
      clock_);
  std::vector<std::future<absl::StatusOr<Answer>>> answers;
  answers.push_back(Classify("a"));
  {
    MutexLock lock(mu);
    while (order != "a") changed.Wait(mu);
  }
  for (int i = 0; i < 5; ++i) answers.push_back(Classify("a"));
  answers.push_back(Ask(*pipeline_, other, EncodedPhoto{"b"}, {}));
  {
    MutexLock lock(mu);
    held = false;
  }
  changed.NotifyAll();
  for (auto& answer : answers) EXPECT_TRUE(answer.get().ok());
  EXPECT_EQ(order, "aabaaaa");
}

TEST_F(ServedModelTest, CountsPixelsOfEncodedPhotosByTheirHeaderBeforeTheyAreDecoded) {
  Start({});
  Budget pixels({.capacity = 100, .owner = "the server", .what = "pixels"},
                metrics_.ForBudgets().pixels);
  std::atomic<int> decoded = 0;
  pipeline_ = std::make_unique<Pipeline>(
      Pipeline::Options{.pixels = &pixels,
                        .count_pixels = [](absl::string_view bytes) -> absl::StatusOr<int64_t> {
                          if (bytes == "bad") return absl::InvalidArgumentError("no header");
                          return bytes == "\x01" ? 100 : 101;
                        }},
      [&](absl::string_view bytes, const InputSpec& spec, const Proceed& proceed,
          const std::shared_ptr<PixelMemory>& memory) {
        ++decoded;
        EXPECT_EQ(pixels.used(), 100);
        return FakeDecode(bytes, spec, proceed, memory);
      },
      clock_);
  EXPECT_EQ(Classify("\x02").get().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Classify("bad").get().status().message(), "no header");
  EXPECT_EQ(decoded, 0);
  EXPECT_TRUE(Classify("\x01").get().ok());
  EXPECT_EQ(decoded, 1);
  EXPECT_EQ(pixels.used(), 0);
  EXPECT_EQ(served_->places().used(), 0);
}

TEST_F(ServedModelTest, SpendsNoForwardPassOnCancelledOrExpiredPhotos) {
  Start({.replicas = 1, .compute_threads = 1, .queue = {}});
  fake_->Hold();
  auto running = Classify("\x01");
  fake_->AwaitRuns(1);
  auto cancelled = std::make_shared<CancelFlag>(false);
  auto gone = Classify("\x01", {.top_k = 1}, cancelled);
  auto late = Classify("\x01", {.top_k = 1}, nullptr, clock_.Now() + std::chrono::milliseconds(5));
  cancelled->store(true);
  clock_.Advance(std::chrono::milliseconds(5));
  fake_->Release();
  EXPECT_EQ(gone.get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(late.get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(running.get().ok());
  EXPECT_THAT(fake_->batches(), ElementsAre(1));
}

TEST_F(ServedModelTest, AnswersEverythingBeforeItIsDestroyed) {
  Start({.replicas = 2, .compute_threads = 1, .queue = {.max_batch = 2}});
  fake_->Hold();
  std::vector<std::future<absl::StatusOr<Answer>>> answers;
  for (int i = 0; i < 20; ++i) answers.push_back(Classify("\x01"));
  fake_->AwaitRuns(2);
  fake_->Release();
  pipeline_.reset();
  served_.reset();
  for (auto& answer : answers) EXPECT_TRUE(answer.get().ok());
}

}  // namespace
}  // namespace dla::server
