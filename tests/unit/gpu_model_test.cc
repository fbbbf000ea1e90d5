#include "model/gpu/gpu_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <thread>
#include <utility>

#include "model/gpu/ladder.h"
#include "tests/support/fake_gpu.h"

namespace dla::gpu {
namespace {

using ::dla::testing::FakeRuntime;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LadderTest, DoublesUpToTheLargestBatch) {
  EXPECT_THAT(MakeLadder(1), ElementsAre(1));
  EXPECT_THAT(MakeLadder(2), ElementsAre(1, 2));
  EXPECT_THAT(MakeLadder(32), ElementsAre(1, 2, 4, 8, 16, 32));
  EXPECT_THAT(MakeLadder(100), ElementsAre(1, 2, 4, 8, 16, 32, 64, 100));
}

TEST(LadderTest, TakesTheNextStep) {
  const std::vector<int> ladder = {1, 2, 4, 6};
  EXPECT_EQ(StepFor(ladder, 1), 1);
  EXPECT_EQ(StepFor(ladder, 3), 4);
  EXPECT_EQ(StepFor(ladder, 4), 4);
  EXPECT_EQ(StepFor(ladder, 5), 6);
  EXPECT_EQ(StepFor(ladder, 7), 6);
}

constexpr int kClasses = 40;
constexpr int kFeatures = 3;

class GpuModelTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Model>> Make(FakeRuntime& runtime,
                                              const GpuModel::Options& options) {
    ModelInfo info;
    info.num_classes = kClasses;
    info.embedding_size = kFeatures;
    info.input.height = 2;
    info.input.width = 2;
    NetworkLayout layout;
    layout.num_classes = kClasses;
    layout.embedding_size = kFeatures;
    auto no_weights = [](const std::string&) { return std::vector<float>(); };
    std::vector<std::unique_ptr<DeviceNetwork>> networks;
    for (const DeviceInfo& device : runtime.devices()) {
      networks.push_back(
          runtime.Load(device.index, layout, no_weights, info.input, Element::kFp16).value());
    }
    return GpuModel::Make(info, std::move(networks), options, runtime);
  }

  // Photos whose first bytes are these; the memory is gone once the result is there.
  static absl::Status Run(const Model& model, const std::vector<int>& marks, BatchOutput& output) {
    std::vector<std::vector<uint8_t>> pixels;
    std::vector<PhotoInput> photos;
    for (int mark : marks) {
      pixels.emplace_back(12, static_cast<uint8_t>(mark));
      photos.emplace_back(pixels.back().data());
    }
    return model.Run(photos, output);
  }

  static std::vector<int> TopClasses(const BatchOutput& output) {
    std::vector<int> classes;
    for (size_t i = 0; i < output.top.size(); i += output.top_k) {
      classes.push_back(output.top[i].index);
    }
    return classes;
  }

  FakeRuntime runtime_{1};
  BatchOutput output_;
};

TEST_F(GpuModelTest, AnswersEachPhotoWithItsOwnRow) {
  const auto model = Make(runtime_, {.max_batch = 8});
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE(Run(**model, {7, 3, 39, 0, 12}, output_).ok());
  EXPECT_THAT(TopClasses(output_), ElementsAre(7, 3, 39, 0, 12));
  ASSERT_EQ(output_.logits.size(), 5u * kClasses);
  EXPECT_EQ(output_.logits[2 * kClasses + 39], 10);
  ASSERT_EQ(output_.embeddings.size(), 5u * kFeatures);
  EXPECT_EQ(output_.embeddings[4 * kFeatures], 12);
  EXPECT_EQ(output_.top_k, kTopClasses);
  ASSERT_TRUE(output_.times.has_value());
  EXPECT_EQ(output_.times->compute, 0.002F);
}

TEST_F(GpuModelTest, TellsHowManyBatchesItTakesAtATimeAndHowLarge) {
  FakeRuntime two_cards(2);
  const auto model = Make(two_cards, {.replicas = 3, .lanes = 2, .max_batch = 24});
  EXPECT_EQ((*model)->info().lanes, 12);
  EXPECT_EQ((*model)->info().max_batch, 24);
}

TEST_F(GpuModelTest, PadsABatchToTheNextStep) {
  const auto model = Make(runtime_, {.max_batch = 6});
  for (int photos : {1, 2, 3, 4, 5, 6}) {
    ASSERT_TRUE(Run(**model, std::vector<int>(photos, 5), output_).ok());
    EXPECT_EQ(output_.logits.size(), static_cast<size_t>(photos) * kClasses);
  }
  EXPECT_THAT(runtime_.card(0).launches(), ElementsAre(1, 2, 4, 4, 6, 6));
}

TEST_F(GpuModelTest, SplitsWhatIsMoreThanTheLargestStep) {
  const auto model = Make(runtime_, {.max_batch = 4});
  ASSERT_TRUE(Run(**model, {1, 2, 3, 4, 5, 6, 7, 8, 9}, output_).ok());
  EXPECT_THAT(TopClasses(output_), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(runtime_.card(0).launches(), ElementsAre(4, 4, 1));
}

TEST_F(GpuModelTest, TakesNormalizedPhotos) {
  const auto model = Make(runtime_, {});
  const std::vector<float> values(12, 17);
  const std::vector<uint8_t> pixels(12, 3);
  ASSERT_TRUE((*model)
                  ->Run({PhotoInput::Normalized(values.data()), PhotoInput(pixels.data())}, output_)
                  .ok());
  EXPECT_THAT(TopClasses(output_), ElementsAre(17, 3));
}

TEST_F(GpuModelTest, LeavesOutStepsForWhichThereIsNoMemory) {
  runtime_.card(0).largest_step = 20;
  const auto model = Make(runtime_, {.max_batch = 128});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().max_batch, 16);
  ASSERT_TRUE(Run(**model, std::vector<int>(40, 1), output_).ok());
  EXPECT_THAT(runtime_.card(0).launches(), ElementsAre(16, 16, 8));
}

TEST_F(GpuModelTest, TheSmallestCardDecidesTheLargestStep) {
  FakeRuntime runtime(2);
  runtime.card(1).largest_step = 4;
  const auto model = Make(runtime, {.max_batch = 16});
  EXPECT_EQ((*model)->info().max_batch, 4);
}

TEST_F(GpuModelTest, IsNotMadeWhereNotASinglePhotoFits) {
  runtime_.card(0).largest_step = 0;
  const absl::Status status = Make(runtime_, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("cuda:0 (Fake Card)"), HasSubstr("replica 1 of 1"),
                                      HasSubstr("use fewer replicas")));
}

TEST_F(GpuModelTest, HoldsThePhotosUntilTheCardHasReadThemEvenAfterAnError) {
  const auto model = Make(runtime_, {});
  runtime_.card(0).copies_fail = true;
  EXPECT_EQ(Run(**model, {1, 2, 3}, output_).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(runtime_.card(0).photos_held, 0);
  EXPECT_EQ(runtime_.card(0).running, 0);
  runtime_.card(0).copies_fail = false;
  ASSERT_TRUE(Run(**model, {1, 2, 3}, output_).ok());
  EXPECT_THAT(TopClasses(output_), ElementsAre(1, 2, 3));
}

TEST_F(GpuModelTest, SaysSoWhenMemoryRunsOutAndWorksOn) {
  const auto model = Make(runtime_, {});
  runtime_.card(0).no_memory = true;
  const absl::Status status = Run(**model, {1}, output_);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("cuda:0 (Fake Card): the card's memory is full"));
  runtime_.card(0).no_memory = false;
  EXPECT_TRUE(Run(**model, {1}, output_).ok());
}

TEST_F(GpuModelTest, GoesOnWithoutACardThatIsLost) {
  FakeRuntime runtime(2);
  const auto model = Make(runtime, {});
  runtime.card(0).lost = true;
  int failed = 0;
  for (int i = 0; i < 10; ++i) failed += Run(**model, {i}, output_).ok() ? 0 : 1;
  EXPECT_EQ(failed, 1);  // the batch that met it
  EXPECT_EQ(runtime.card(1).launches().size(), 9u);
  // For good, whatever the card does later.
  runtime.card(0).lost = false;
  ASSERT_TRUE(Run(**model, {1}, output_).ok());
  EXPECT_EQ(runtime.card(0).launches().size(), 0u);
}

TEST_F(GpuModelTest, SaysWhyWhenAllCardsAreLost) {
  FakeRuntime runtime(2);
  const auto model = Make(runtime, {});
  runtime.card(0).lost = true;
  runtime.card(1).lost = true;
  for (int i = 0; i < 4; ++i) {
    const absl::Status status = Run(**model, {1}, output_);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(status.message(), HasSubstr("fell off the bus"));
  }
}

TEST_F(GpuModelTest, RunsAsManyBatchesAtATimeAsThereAreLanesOnAllCards) {
  FakeRuntime runtime(2);
  const auto model = Make(runtime, {.replicas = 1, .lanes = 2});
  // Each batch ends only once four are under way.
  std::barrier all_under_way(4);
  for (int card : {0, 1}) {
    runtime.card(card).on_wait = [&all_under_way] { all_under_way.arrive_and_wait(); };
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      BatchOutput output;
      EXPECT_TRUE(Run(**model, {1, 2}, output).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(runtime.card(0).most_running, 2);
  EXPECT_EQ(runtime.card(1).most_running, 2);
}

TEST_F(GpuModelTest, MoreThreadsThanLanesTakeTurns) {
  const auto model = Make(runtime_, {.lanes = 2});
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      BatchOutput output;
      for (int round = 0; round < 200; ++round) {
        ASSERT_TRUE(Run(**model, {i, i + 1}, output).ok());
        ASSERT_THAT(TopClasses(output), ElementsAre(i, i + 1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(runtime_.card(0).most_running, 2);
}

TEST_F(GpuModelTest, PhotosLieWhereTheCardReadsThem) {
  auto model = Make(runtime_, {.pinned_photos = 2});
  const std::shared_ptr<PixelMemory> memory = (*model)->photo_memory();
  ASSERT_NE(memory, nullptr);
  const PixelAllocator<uint8_t> allocator(memory);
  Pixels first(12, allocator);
  Pixels moved = std::move(first);
  EXPECT_TRUE(runtime_.IsPinned(moved.data()));
  Pixels assigned;
  assigned = std::move(moved);
  EXPECT_TRUE(runtime_.IsPinned(assigned.data()));
  const Pixels copy = assigned;
  EXPECT_FALSE(runtime_.IsPinned(copy.data()));
  Pixels second(12, allocator);
  EXPECT_TRUE(runtime_.IsPinned(second.data()));
  // All are taken; then one is free again.
  EXPECT_FALSE(runtime_.IsPinned(Pixels(12, allocator).data()));
  second = Pixels();
  EXPECT_TRUE(runtime_.IsPinned(Pixels(12, allocator).data()));
  EXPECT_FALSE(runtime_.IsPinned(Pixels(13, allocator).data()));
  // A photo may outlive its model.
  model->reset();
  EXPECT_TRUE(runtime_.IsPinned(assigned.data()));
}

TEST_F(GpuModelTest, WorksWithoutPinnedMemory) {
  runtime_.no_pinned_memory = true;
  const auto model = Make(runtime_, {});
  EXPECT_EQ((*model)->photo_memory(), nullptr);
  EXPECT_TRUE(Run(**model, {1}, output_).ok());
}

}  // namespace
}  // namespace dla::gpu
