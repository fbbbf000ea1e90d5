#include "server/batch_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "server/metrics.h"
#include "tests/support/fake_clock.h"

namespace dla::server {
namespace {

using std::chrono::microseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class BatchQueueTest : public ::testing::Test {
 protected:
  BatchQueue& Make(const BatchQueue::Options& options) {
    queue_ = std::make_unique<BatchQueue>(options, *metrics_, clock_);
    return *queue_;
  }

  ~BatchQueueTest() override {
    if (queue_ == nullptr) return;
    queue_->Close();
    while (!queue_->NextBatch().empty()) {
    }
  }

  // Queues a photo that is told apart by its top_k; its answer's status lands in answers_.
  void Push(int id, TimePoint deadline = TimePoint::max(),
            std::shared_ptr<const CancelFlag> cancelled = nullptr, Caller caller = {}) {
    auto place = places_.Take(caller, 1);
    ASSERT_TRUE(place.ok()) << place.status();
    queue_->Push({.context = {.options = {.top_k = id},
                              .caller = caller,
                              .deadline = deadline,
                              .cancelled = std::move(cancelled),
                              .done =
                                  [this, id](absl::StatusOr<Answer> answer) {
                                    answers_.emplace_back(id, answer.status().code());
                                  }},
                  .place = *std::move(place)});
  }

  static std::vector<int> Ids(const std::vector<BatchQueue::Item>& batch) {
    std::vector<int> ids;
    for (const auto& item : batch) ids.push_back(item.context.options.top_k);
    return ids;
  }

  FakeClock clock_;
  Metrics registry_;
  std::unique_ptr<ModelMetrics> metrics_ = registry_.ForModel("m", 16);
  Budget places_{{.capacity = Budget::kUnlimited}, metrics_->queue};
  std::vector<std::pair<int, absl::StatusCode>> answers_;
  std::unique_ptr<BatchQueue> queue_;
};

TEST_F(BatchQueueTest, HandsOutALonePhotoAtOnce) {
  Make({.max_batch = 8});
  Push(1);
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(1));
}

TEST_F(BatchQueueTest, HandsOutWhatWaitsInTheOrderOfArrivalUpToTheLargestBatch) {
  Make({.max_batch = 3});
  for (int id = 1; id <= 5; ++id) Push(id);
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(1, 2, 3));
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(4, 5));
}

TEST_F(BatchQueueTest, BlocksUntilAPhotoArrives) {
  Make({});
  auto batch = std::async(std::launch::async, [this] { return Ids(queue_->NextBatch()); });
  Push(7);
  EXPECT_THAT(batch.get(), ElementsAre(7));
}

TEST_F(BatchQueueTest, HoldsBackUntilTheOldestPhotoHasWaitedForTheDelay) {
  Make({.max_batch = 8, .max_delay = microseconds(100)});
  Push(1);
  clock_.Advance(microseconds(60));
  Push(2);
  auto batch = std::async(std::launch::async, [this] { return Ids(queue_->NextBatch()); });
  clock_.AwaitWaiters(1);
  clock_.Advance(microseconds(39));
  EXPECT_EQ(batch.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  clock_.Advance(microseconds(1));
  EXPECT_THAT(batch.get(), ElementsAre(1, 2));
}

TEST_F(BatchQueueTest, DoesNotHoldBackAFullBatch) {
  Make({.max_batch = 2, .max_delay = microseconds(100)});
  Push(1);
  auto batch = std::async(std::launch::async, [this] { return Ids(queue_->NextBatch()); });
  clock_.AwaitWaiters(1);
  Push(2);
  EXPECT_THAT(batch.get(), ElementsAre(1, 2));
}

TEST_F(BatchQueueTest, GivesPlacesBackWhenTheBatchForms) {
  Make({.max_batch = 8});
  Push(1);
  Push(2);
  EXPECT_EQ(metrics_->queue.used->Value(), 2);
  const auto batch = queue_->NextBatch();
  EXPECT_EQ(metrics_->queue.used->Value(), 0);
}

TEST_F(BatchQueueTest, LetsCallersTakeTurns) {
  Make({.max_batch = 4});
  for (int id = 1; id <= 5; ++id) Push(id, TimePoint::max(), nullptr, {.client = 1});
  Push(11, TimePoint::max(), nullptr, {.client = 2});
  Push(21, TimePoint::max(), nullptr, {.client = 3});
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(1, 11, 21, 2));
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(3, 4, 5));
}

TEST_F(BatchQueueTest, HoldsBackNoLongerForTheOldestPhotoOfAnyCaller) {
  Make({.max_batch = 8, .max_delay = microseconds(100)});
  Push(1, TimePoint::max(), nullptr, {.priority = Priority::kBulk});
  clock_.Advance(microseconds(60));
  Push(2);
  auto batch = std::async(std::launch::async, [this] { return Ids(queue_->NextBatch()); });
  clock_.AwaitWaiters(1);
  clock_.Advance(microseconds(40));
  EXPECT_THAT(batch.get(), ElementsAre(2, 1));
}

TEST_F(BatchQueueTest, DropsCancelledItemsWhenTheBatchForms) {
  Make({.max_batch = 8});
  auto cancelled = std::make_shared<CancelFlag>(false);
  Push(1, TimePoint::max(), cancelled);
  Push(2);
  cancelled->store(true);
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(2));
  EXPECT_THAT(answers_, ElementsAre(std::pair(1, absl::StatusCode::kCancelled)));
}

TEST_F(BatchQueueTest, DropsExpiredItemsWhenTheBatchForms) {
  Make({.max_batch = 8});
  Push(1, clock_.Now() + microseconds(10));
  Push(2, clock_.Now() + microseconds(11));
  clock_.Advance(microseconds(10));
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(2));
  EXPECT_THAT(answers_, ElementsAre(std::pair(1, absl::StatusCode::kDeadlineExceeded)));
}

TEST_F(BatchQueueTest, FillsTheBatchPastTheDroppedItems) {
  Make({.max_batch = 2});
  auto cancelled = std::make_shared<CancelFlag>(true);
  Push(1);
  Push(2, TimePoint::max(), cancelled);
  Push(3);
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(1, 3));
}

TEST_F(BatchQueueTest, AnswersDroppedItemsEvenWhenNothingElseWaits) {
  Make({.max_batch = 8});
  Push(1, clock_.Now());
  auto batch = std::async(std::launch::async, [this] { return Ids(queue_->NextBatch()); });
  queue_->Close();
  EXPECT_THAT(batch.get(), IsEmpty());
  EXPECT_THAT(answers_, ElementsAre(std::pair(1, absl::StatusCode::kDeadlineExceeded)));
  EXPECT_EQ(places_.used(), 0);
}

TEST_F(BatchQueueTest, HandsOutWhatIsLeftAfterClosingThenNothing) {
  Make({.max_batch = 1, .max_delay = microseconds(100)});
  Push(1);
  Push(2);
  queue_->Close();
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(1));
  EXPECT_THAT(Ids(queue_->NextBatch()), ElementsAre(2));
  EXPECT_THAT(queue_->NextBatch(), IsEmpty());
  EXPECT_THAT(answers_, IsEmpty());
}

TEST_F(BatchQueueTest, AnswersAPhotoThatComesAfterClosing) {
  Make({});
  auto place = places_.Take({}, 1);
  queue_->Close();
  absl::Status status;
  queue_->Push({.context = {.done = [&status](absl::StatusOr<Answer> a) { status = a.status(); }},
                .place = *std::move(place)});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(places_.used(), 0);
}

TEST_F(BatchQueueTest, LosesAndDoublesNothingAmongManyThreads) {
  constexpr int kProducers = 4, kPhotos = 500, kReplicas = 3;
  Make({.max_batch = 7});
  std::atomic<int> taken = 0;
  std::vector<std::atomic<int>> seen(kProducers * kPhotos);
  std::vector<std::thread> threads;
  for (int r = 0; r < kReplicas; ++r) {
    threads.emplace_back([&] {
      for (;;) {
        auto batch = queue_->NextBatch();
        if (batch.empty()) return;
        EXPECT_LE(batch.size(), 7u);
        for (const auto& item : batch) ++seen[item.context.options.top_k];
        taken += static_cast<int>(batch.size());
      }
    });
  }
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&, p] {
      for (int i = 0; i < kPhotos; ++i) Push(p * kPhotos + i);
    });
  }
  for (auto& thread : producers) thread.join();
  queue_->Close();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(taken, kProducers * kPhotos);
  for (const auto& count : seen) EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace dla::server
