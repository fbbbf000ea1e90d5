// Queue, replicas and pipeline together, on a fake model.
#include "server/served_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  EXPECT_EQ(served_->queue().reserved(), 0u);
}

TEST_F(ServedModelTest, ABadPhotoFailsAlone) {
  Start({});
  auto good = Classify("\x01");
  auto bad = Classify("bad");
  EXPECT_EQ(bad.get().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(good.get().ok());
  EXPECT_EQ(served_->queue().reserved(), 0u);
}

TEST_F(ServedModelTest, AFailedBatchReachesEveryWaiter) {
  Start({});
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
  Start({.replicas = 1, .compute_threads = 1, .queue = {.capacity = 2, .max_batch = 1}});
  fake_->Hold();
  auto running = Classify("\x01");
  fake_->AwaitRuns(1);
  auto second = Classify("\x01");
  auto third = Classify("\x01");
  absl::Status refused = Classify("\x01").get().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("(2 photos)"));
  EXPECT_TRUE(refused.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
  EXPECT_EQ(served_->metrics().in_flight->Value(), 3);
  fake_->Release();
  EXPECT_TRUE(running.get().ok());
  EXPECT_TRUE(second.get().ok());
  EXPECT_TRUE(third.get().ok());
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
