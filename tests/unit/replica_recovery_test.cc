// What becomes of photos, replicas and the model's health when forward passes go wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <random>
#include <stdexcept>
#include <thread>

#include "server/pipeline.h"
#include "server/reaper.h"
#include "server/served_model.h"
#include "tests/support/ask.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model.h"
#include "tests/support/faults.h"

namespace dla::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Future = std::future<absl::StatusOr<Answer>>;

constexpr Duration kTimeout = seconds(20);

class ReplicaRecoveryTest : public ::testing::Test {
 protected:
  ~ReplicaRecoveryTest() override { End(); }

  // Batches form once they are full, in the order of the photos, unless `fill` is false.
  void Start(int replicas, int max_batch, bool fill = true) {
    auto model = std::make_unique<FakeModel>();
    fake_ = model.get();
    gone_ = std::make_shared<std::promise<void>>();
    fake_->OnDestroyed([gone = gone_] { gone->set_value(); });
    served_ = reaper_->Share(std::make_unique<ServedModel>(
        "m", "1", std::move(model),
        ServedModel::Options{.replicas = replicas,
                             .compute_threads = 1,
                             .queue = {.max_batch = max_batch,
                                       .max_delay = fill ? Duration(seconds(1)) : Duration()},
                             .batch_timeout = kTimeout,
                             .on_health =
                                 [this](const std::string&) {
                                   MutexLock lock(mu_);
                                   ++changes_;
                                   changed_.NotifyAll();
                                 }},
        *metrics_, clock_));
    pipeline_ =
        std::make_unique<Pipeline>(Pipeline::Options{.decode_threads = 1}, FakeDecode, clock_);
  }

  // Ends everything but the threads that hang, then waits for the model to be gone with the last of
  // them.
  void End() {
    pipeline_.reset();
    served_.reset();
    reaper_.reset();
    metrics_.reset();
    hang_.Release();
    if (gone_ != nullptr) std::exchange(gone_, nullptr)->get_future().get();
  }

  Future Classify(int mark, std::shared_ptr<const CancelFlag> cancelled = nullptr) {
    return Ask(*pipeline_, served_, EncodedPhoto{absl::string_view(&kMarks[mark], 1)},
               {.options = {.top_k = 1}, .cancelled = std::move(cancelled)});
  }

  std::vector<Future> ClassifyAll(const std::vector<int>& marks) {
    std::vector<Future> answers;
    for (int mark : marks) answers.push_back(Classify(mark));
    return answers;
  }

  // "0", "1", ...: the class; else the status' code.
  static std::string Outcome(const absl::StatusOr<Answer>& answer) {
    return answer.ok() ? std::to_string(answer->classes.at(0).index)
                       : absl::StatusCodeToString(answer.status().code());
  }
  static std::string Outcome(Future& answer) { return Outcome(answer.get()); }
  static std::vector<std::string> Outcomes(std::vector<Future> answers) {
    std::vector<std::string> outcomes;
    for (Future& answer : answers) outcomes.push_back(Outcome(answer));
    return outcomes;
  }

  void AwaitHealth(bool healthy) {
    MutexLock lock(mu_);
    while (served_->health().healthy() != healthy) changed_.Wait(mu_);
  }

  // Lets time pass, one pause after the other, until the model is healthy.
  void AdvanceUntilHealthy() {
    while (!served_->health().healthy()) {
      clock_.Advance(seconds(1));
      std::this_thread::yield();
    }
  }

  ModelMetrics& metrics() { return served_->metrics(); }
  double Failures(const std::string& reason) {
    for (const auto& family : metrics_->registry()->Collect()) {
      if (family.name != "dla_batch_failures_total") continue;
      for (const auto& metric : family.metric) {
        for (const auto& label : metric.label) {
          if (label.value == reason) return metric.counter.value;
        }
      }
    }
    return -1;
  }

  static constexpr char kMarks[] = {0, 1, 2, 3};

  FakeClock clock_;
  Hang hang_;
  std::unique_ptr<Metrics> metrics_ = std::make_unique<Metrics>();
  std::unique_ptr<Reaper> reaper_ = std::make_unique<Reaper>();
  FakeModel* fake_ = nullptr;
  std::shared_ptr<std::promise<void>> gone_;
  std::shared_ptr<ServedModel> served_;
  std::unique_ptr<Pipeline> pipeline_;
  Mutex mu_;
  CondVar changed_;
  int changes_ ABSL_GUARDED_BY(mu_) = 0;  // of the model's health
};

TEST_F(ReplicaRecoveryTest, APoisonousPhotoHarmsItsHalfOfTheBatchOnly) {
  Start(1, 5);
  fake_->InjectFault(FailOn(3, absl::InternalError("device lost")));
  std::vector<Future> answers = ClassifyAll({1, 2, 0, 3, 1});
  EXPECT_EQ(Outcome(answers[0]), "1");
  EXPECT_EQ(Outcome(answers[1]), "2");
  EXPECT_EQ(Outcome(answers[2]), "0");
  const absl::Status failed = answers[3].get().status();
  EXPECT_EQ(failed.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(failed.message()),
              AllOf(HasSubstr("device lost"), HasSubstr("second attempt")));
  EXPECT_EQ(Outcome(answers[4]), "INTERNAL");
  EXPECT_THAT(fake_->batches(), ElementsAre(5, 3, 2));
  EXPECT_EQ(Failures("error"), 2);
  EXPECT_EQ(metrics().batch_retries->Value(), 2);
  EXPECT_EQ(metrics().replica_restarts->Value(), 0);
  EXPECT_TRUE(served_->health().healthy());
}

TEST_F(ReplicaRecoveryTest, ABatchOfOneIsTriedOnceMoreAsItIs) {
  Start(1, 1);
  fake_->InjectFault(Times(1, FailOn(2, absl::InternalError("glitch"))));
  Future answer = Classify(2);
  EXPECT_EQ(Outcome(answer), "2");
  EXPECT_THAT(fake_->batches(), ElementsAre(1, 1));
}

TEST_F(ReplicaRecoveryTest, PhotosWhoseCallerIsGoneAreNotTriedAgain) {
  Start(1, 4);
  auto cancelled = std::make_shared<CancelFlag>(false);
  fake_->InjectFault(Times(1, [cancelled](const std::vector<int>&) {
    cancelled->store(true);
    return absl::InternalError("glitch");
  }));
  Future first = Classify(1, cancelled);
  Future second = Classify(1, cancelled);
  Future third = Classify(2, cancelled);
  Future fourth = Classify(3);
  EXPECT_EQ(Outcome(first), "CANCELLED");
  EXPECT_EQ(Outcome(second), "CANCELLED");
  EXPECT_EQ(Outcome(third), "CANCELLED");
  EXPECT_EQ(Outcome(fourth), "3");
  EXPECT_THAT(fake_->batches(), ElementsAre(4, 1));
}

TEST_F(ReplicaRecoveryTest, AReplicaThatThrowsIsRebuiltAndProvesItselfBeforeItTriesAgain) {
  Start(1, 2);
  fake_->InjectFault(Times(1, [](const std::vector<int>&) -> absl::Status {
    throw std::runtime_error("illegal instruction");
  }));
  EXPECT_THAT(Outcomes(ClassifyAll({1, 2})), ElementsAre("1", "2"));
  EXPECT_THAT(fake_->batches(), ElementsAre(2, 1, 1, 1));  // the batch, the trial, the halves
  EXPECT_EQ(Failures("exception"), 1);
  EXPECT_EQ(metrics().replica_restarts->Value(), 1);
}

TEST_F(ReplicaRecoveryTest, WhateverIsThrownReachesTheCallerAsAnError) {
  Start(1, 1);
  fake_->InjectFault([](const std::vector<int>& marks) -> absl::Status {
    if (marks[0] == 1) throw 7;
    if (marks[0] == 2) throw std::runtime_error("overheated");
    return absl::OkStatus();
  });
  EXPECT_EQ(Classify(1).get().status().code(), absl::StatusCode::kInternal);
  const absl::Status failed = Classify(2).get().status();
  EXPECT_THAT(std::string(failed.message()), HasSubstr("overheated"));
}

TEST_F(ReplicaRecoveryTest, ALostBatchHasItsReplicaRebuilt) {
  Start(1, 2);
  fake_->InjectFault(Times(3, FailOn(1, absl::InternalError("glitch"))));
  EXPECT_THAT(Outcomes(ClassifyAll({1, 1})), ElementsAre("INTERNAL", "INTERNAL"));
  EXPECT_THAT(Outcomes(ClassifyAll({1, 2})), ElementsAre("1", "2"));
  EXPECT_THAT(fake_->batches(), ElementsAre(2, 1, 1, 1, 2));  // the last 1 is the trial
  EXPECT_EQ(metrics().replica_restarts->Value(), 1);
  EXPECT_TRUE(served_->health().healthy());
}

TEST_F(ReplicaRecoveryTest, OutOfMemoryLowersTheLargestBatchAndTrafficGoesOn) {
  Start(1, 8);
  EXPECT_EQ(metrics().max_batch->Value(), 8);
  fake_->InjectFault(OutOfMemoryAbove(3));
  // The halves of 4 are too large, too.
  EXPECT_THAT(Outcomes(ClassifyAll({0, 1, 2, 3, 0, 1, 2, 3})),
              ::testing::Each("RESOURCE_EXHAUSTED"));
  EXPECT_EQ(metrics().max_batch->Value(), 2);
  EXPECT_EQ(Failures("out_of_memory"), 3);
  EXPECT_THAT(Outcomes(ClassifyAll({0, 1, 2, 3})), ElementsAre("0", "1", "2", "3"));
  EXPECT_THAT(fake_->batches(), ElementsAre(8, 4, 4, 1, 2, 2));
  EXPECT_TRUE(served_->health().healthy());
}

TEST_F(ReplicaRecoveryTest, AnErrorThatSaysResourceExhaustedIsOutOfMemoryToo) {
  Start(1, 4);
  fake_->InjectFault(Times(1, FailOn(1, absl::ResourceExhaustedError("CUDA out of memory"))));
  EXPECT_THAT(Outcomes(ClassifyAll({0, 1, 2, 3})), ElementsAre("0", "1", "2", "3"));
  EXPECT_EQ(metrics().max_batch->Value(), 2);
  EXPECT_EQ(Failures("out_of_memory"), 1);
  EXPECT_EQ(metrics().replica_restarts->Value(), 0);
}

TEST_F(ReplicaRecoveryTest, TheLargestBatchIsNeverLessThanOnePhoto) {
  Start(1, 1);
  fake_->InjectFault(Times(2, FailOn(1, absl::ResourceExhaustedError("no memory"))));
  Future lost = Classify(1);
  EXPECT_EQ(Outcome(lost), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(metrics().max_batch->Value(), 1);
  Future answer = Classify(1);
  EXPECT_EQ(Outcome(answer), "1");
}

TEST_F(ReplicaRecoveryTest, PhotosOfAHungBatchAreAnsweredByAnotherReplica) {
  Start(1, 2);
  fake_->InjectFault(Times(1, hang_.Always()));
  std::vector<Future> answers = ClassifyAll({1, 3});
  hang_.Await(1);
  clock_.AwaitWaiters(1);
  clock_.Advance(kTimeout - milliseconds(1));
  EXPECT_EQ(answers[0].wait_for(seconds(0)), std::future_status::timeout);
  clock_.Advance(milliseconds(1));
  EXPECT_THAT(Outcomes(std::move(answers)), ElementsAre("1", "3"));
  EXPECT_THAT(fake_->batches(), ElementsAre(2, 1, 1, 1));
  EXPECT_EQ(Failures("timeout"), 1);
  EXPECT_EQ(metrics().replica_restarts->Value(), 1);
  EXPECT_EQ(metrics().replicas_busy->Value(), 0);
  EXPECT_EQ(Strays::total(), 1);
  // It returns one day; nothing happens.
  hang_.Release();
  while (Strays::total() > 0) std::this_thread::yield();
  EXPECT_THAT(Outcomes(ClassifyAll({1, 2})), ElementsAre("1", "2"));
  EXPECT_EQ(metrics().in_flight->Value(), 0);
}

TEST_F(ReplicaRecoveryTest, APhotoThatHangsTwiceIsAnsweredWithAnErrorAndItsNeighbourIsNot) {
  Start(1, 2);
  fake_->InjectFault(hang_.On(3));
  std::vector<Future> answers = ClassifyAll({3, 1});
  hang_.Await(1);
  clock_.AwaitWaiters(1);
  clock_.Advance(kTimeout);
  hang_.Await(2);
  clock_.AwaitWaiters(1);
  clock_.Advance(kTimeout);
  const absl::Status failed = answers[0].get().status();
  EXPECT_EQ(failed.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(failed.message()),
              AllOf(HasSubstr("20000 ms"), HasSubstr("second attempt")));
  EXPECT_EQ(Outcome(answers[1]), "1");
  EXPECT_TRUE(served_->health().healthy());
}

TEST_F(ReplicaRecoveryTest, OtherReplicasGoOnWhileOneHangs) {
  Start(2, 1, /*fill=*/false);
  fake_->InjectFault(hang_.On(3));
  Future hung = Classify(3);
  hang_.Await(1);
  for (int i = 0; i < 10; ++i) {
    Future answer = Classify(1);
    EXPECT_EQ(Outcome(answer), "1");
  }
  fake_->InjectFault(nullptr);
  clock_.Advance(kTimeout);
  EXPECT_EQ(Outcome(hung), "3");
}

TEST_F(ReplicaRecoveryTest, AReplicaThatReturnsJustAsItsBatchIsTakenAnswersOnce) {
  Start(1, 2);
  for (int i = 0; i < 150; ++i) {
    fake_->InjectFault(Times(1, hang_.Always()));
    std::vector<Future> answers = ClassifyAll({1, 3});
    hang_.Await(1);
    clock_.AwaitWaiters(1);
    std::thread time([this] { clock_.Advance(kTimeout); });
    if (i % 2 == 0) std::this_thread::yield();
    hang_.Release();
    time.join();
    // A promise that is set twice throws.
    EXPECT_THAT(Outcomes(std::move(answers)), ElementsAre("1", "3"));
  }
  EXPECT_EQ(metrics().in_flight->Value(), 0);
}

TEST_F(ReplicaRecoveryTest, AModelWithAThreadThatHangsCanBeUnloaded) {
  Start(1, 1);
  fake_->InjectFault(Times(1, hang_.Always()));
  Future answer = Classify(2);
  hang_.Await(1);
  clock_.AwaitWaiters(1);
  clock_.Advance(kTimeout);
  EXPECT_EQ(Outcome(answer), "2");
  auto gone = gone_->get_future();
  gone_ = nullptr;
  End();  // would wait for ever; now it has released the hung thread
  gone.get();
}

TEST_F(ReplicaRecoveryTest, AModelWhoseTrialHangsCanBeUnloaded) {
  Start(1, 1);
  fake_->InjectFault(
      [throws = Times(
           1, [](const std::vector<int>&) -> absl::Status { throw std::runtime_error("glitch"); }),
       hangs = hang_.On(0)](const std::vector<int>& marks) {
        const absl::Status status = throws(marks);
        return status.ok() ? hangs(marks) : status;
      });
  auto cancelled = std::make_shared<CancelFlag>(false);
  Future answer = Classify(2, cancelled);
  hang_.Await(1);  // the trial
  clock_.AwaitWaiters(1);
  clock_.Advance(kTimeout);
  EXPECT_EQ(Outcome(answer), "UNAVAILABLE");
  AwaitHealth(false);
  clock_.AwaitWaiterFor(clock_.Now() + seconds(1));
  clock_.Advance(seconds(1));
  hang_.Await(2);  // the next trial; the end does not wait for it
}

TEST_F(ReplicaRecoveryTest, WhileNoReplicaWorksPhotosAreRefusedAtOnceAndTrialsBringTheModelBack) {
  Start(2, 1, /*fill=*/false);
  EXPECT_EQ(metrics().healthy->Value(), 1);
  fake_->Hold();
  std::vector<Future> running = ClassifyAll({1, 2});
  fake_->AwaitRuns(2);
  std::vector<Future> waiting = ClassifyAll({1, 2, 3});
  fake_->InjectFault([](const std::vector<int>&) { return absl::InternalError("device lost"); });
  fake_->Release();
  for (const std::string& outcome : Outcomes(std::move(running))) {
    EXPECT_THAT(outcome, ::testing::AnyOf("INTERNAL", "UNAVAILABLE"));
  }
  for (const std::string& outcome : Outcomes(std::move(waiting))) {
    EXPECT_THAT(outcome, ::testing::AnyOf("INTERNAL", "UNAVAILABLE"));
  }
  AwaitHealth(false);
  EXPECT_EQ(metrics().healthy->Value(), 0);
  EXPECT_THAT(served_->health().reason(), HasSubstr("device lost"));
  while (served_->health().CheckAvailable().ok()) std::this_thread::yield();
  const size_t runs = fake_->batches().size();
  const absl::Status refused = Classify(1).get().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("\"m\""), HasSubstr("device lost"), HasSubstr("try again")));
  EXPECT_EQ(fake_->batches().size(), runs);

  // Nobody sends anything, and still it comes back.
  fake_->InjectFault(nullptr);
  AdvanceUntilHealthy();
  EXPECT_EQ(metrics().healthy->Value(), 1);
  Future answer = Classify(1);
  EXPECT_EQ(Outcome(answer), "1");
}

TEST_F(ReplicaRecoveryTest, TrialsFollowEachOtherWithGrowingPauses) {
  Start(1, 1);
  fake_->InjectFault([](const std::vector<int>&) { return absl::InternalError("device lost"); });
  Future answer = Classify(1);
  EXPECT_EQ(Outcome(answer), "INTERNAL");
  AwaitHealth(false);
  fake_->AwaitRuns(3);  // the photo twice, the first trial
  int runs = 3;
  for (const int pause : {1, 2, 4, 8, 16, 30, 30}) {
    clock_.AwaitWaiterFor(clock_.Now() + seconds(pause));
    clock_.Advance(seconds(pause) - milliseconds(1));
    EXPECT_EQ(fake_->batches().size(), static_cast<size_t>(runs)) << pause;
    clock_.Advance(milliseconds(1));
    fake_->AwaitRuns(++runs);
  }
}

TEST_F(ReplicaRecoveryTest, ThreeLostBatchesInARowMakeTheModelUnhealthyUntilATrialSucceeds) {
  Start(4, 1, /*fill=*/false);
  fake_->InjectFault(FailOn(2, absl::InternalError("bad weights")));  // blank photos are fine
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(served_->health().healthy());
    Future lost = Classify(2);
    EXPECT_EQ(Outcome(lost), "INTERNAL");
  }
  EXPECT_FALSE(served_->health().healthy());
  EXPECT_TRUE(served_->health().CheckAvailable().ok());  // three replicas still work
  AdvanceUntilHealthy();
  EXPECT_EQ(served_->health().reason(), "");
}

TEST_F(ReplicaRecoveryTest, AnyAnswerTurnsHealthBack) {
  Start(4, 1, /*fill=*/false);
  fake_->InjectFault(FailOn(2, absl::InternalError("bad weights")));
  for (int i = 0; i < 3; ++i) {
    Future lost = Classify(2);
    EXPECT_EQ(Outcome(lost), "INTERNAL");
  }
  EXPECT_FALSE(served_->health().healthy());
  Future answer = Classify(1);
  EXPECT_EQ(Outcome(answer), "1");
  EXPECT_TRUE(served_->health().healthy());
}

TEST_F(ReplicaRecoveryTest, TooManyThreadsThatHangStopTheModelUntilOneComesBack) {
  Start(1, 1);
  fake_->InjectFault(hang_.On(3));
  Future twice = Classify(3);
  for (int hung = 1; hung <= 2; ++hung) {
    hang_.Await(hung);
    clock_.AwaitWaiters(1);
    clock_.Advance(kTimeout);
  }
  EXPECT_EQ(Outcome(twice), "INTERNAL");
  Future third = Classify(3);
  hang_.Await(3);
  clock_.AwaitWaiters(1);
  clock_.Advance(kTimeout);
  EXPECT_EQ(Outcome(third), "UNAVAILABLE");
  AwaitHealth(false);
  EXPECT_THAT(served_->health().reason(), HasSubstr("3 forward passes hang"));
  Future refused = Classify(1);
  EXPECT_EQ(Outcome(refused), "UNAVAILABLE");
  EXPECT_EQ(Strays::total(), 3);

  hang_.Release();
  AdvanceUntilHealthy();
  Future answer = Classify(1);
  EXPECT_EQ(Outcome(answer), "1");
}

TEST_F(ReplicaRecoveryTest, WithoutATimeoutNothingIsTakenAway) {
  auto model = std::make_unique<FakeModel>();
  FakeModel* fake = model.get();
  served_ = reaper_->Share(std::make_unique<ServedModel>(
      "m", "1", std::move(model), ServedModel::Options{}, *metrics_, clock_));
  pipeline_ =
      std::make_unique<Pipeline>(Pipeline::Options{.decode_threads = 1}, FakeDecode, clock_);
  fake->InjectFault(Times(1, hang_.Always()));
  Future answer = Classify(1);
  hang_.Await(1);
  clock_.Advance(std::chrono::hours(24));
  hang_.Release();
  EXPECT_EQ(Outcome(answer), "1");
  EXPECT_THAT(fake->batches(), ElementsAre(1));
}

TEST_F(ReplicaRecoveryTest, AThousandRandomFailuresGiveEveryPhotoExactlyOneAnswer) {
  constexpr int kPhotos = 100'000;  // refused ones cost no batch
  Start(3, 4, /*fill=*/false);
  Mutex mu;
  std::mt19937 random(20240607);
  int failures = 0;
  fake_->InjectFault([&, hang = hang_](const std::vector<int>& marks) -> absl::Status {
    int what = 0;
    {
      MutexLock lock(mu);
      what = static_cast<int>(random() % 16);
      failures += what < 8;
    }
    if (what < 2) throw std::runtime_error("random");
    if (what < 4) throw std::bad_alloc();
    if (what < 7) return absl::InternalError("random");
    if (what == 7) return hang.Always()(marks);
    return absl::OkStatus();
  });
  std::atomic<bool> stop = false;
  std::thread time([&] {
    while (!stop) {
      clock_.Advance(seconds(7));
      std::this_thread::yield();
      if (hang_.hanging() > 3) hang_.Release();
    }
  });
  std::vector<std::atomic<int>> answers(kPhotos);
  std::atomic<int> answered = 0;
  std::atomic<int> good = 0;
  auto failed_batches = [&] {
    MutexLock lock(mu);
    return failures;
  };
  int sent = 0;
  while (sent < kPhotos && failed_batches() < 1000) {
    while (sent - answered > 40 || !served_->health().CheckAvailable().ok()) {
      std::this_thread::yield();
    }
    const int id = sent++;
    pipeline_->Submit(served_, EncodedPhoto{absl::string_view(&kMarks[id % 4], 1)},
                      {.options = {.top_k = 1}, .done = [&, id](absl::StatusOr<Answer> answer) {
                         ++answers[id];
                         good += answer.ok();
                         ++answered;
                       }});
  }
  while (answered < sent) {
    hang_.Release();
    std::this_thread::yield();
  }
  fake_->InjectFault(nullptr);
  AdvanceUntilHealthy();
  stop = true;
  time.join();
  EXPECT_GE(failed_batches(), 1000);
  EXPECT_GT(good, 0);
  for (int id = 0; id < sent; ++id) EXPECT_EQ(answers[id], 1) << id;
  EXPECT_EQ(metrics().in_flight->Value(), 0);
  EXPECT_EQ(served_->places().used(), 0);
  EXPECT_EQ(metrics().replicas_busy->Value(), 0);
  EXPECT_EQ(metrics().max_batch->Value(), 1);
}

}  // namespace
}  // namespace dla::server
