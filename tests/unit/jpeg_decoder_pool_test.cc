#include "model/gpu/jpeg_decoder_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <set>
#include <thread>

namespace dla::gpu {
namespace {

// Lanes that answer with what a test wants.
class JpegDecoderPoolTest : public ::testing::Test {
 protected:
  struct Lane : JpegLane {
    explicit Lane(JpegDecoderPoolTest& t) : test(t) { ++test.alive_; }
    ~Lane() override { --test.alive_; }
    absl::Status Decode(const JpegPhoto&, uint8_t* out) override {
      EXPECT_FALSE(busy.exchange(true)) << "two threads in a lane";
      absl::Status status = test.decode_(out);
      busy = false;
      return status;
    }
    JpegDecoderPoolTest& test;
    std::atomic<bool> busy = false;
  };

  std::unique_ptr<JpegDecoderPool> Pool(int max_lanes) {
    return std::make_unique<JpegDecoderPool>(max_lanes,
                                             [this]() -> absl::StatusOr<std::unique_ptr<JpegLane>> {
                                               if (!make_.ok()) return make_;
                                               ++made_;
                                               return std::make_unique<Lane>(*this);
                                             });
  }

  absl::Status make_;
  std::function<absl::Status(uint8_t*)> decode_ = [](uint8_t*) { return absl::OkStatus(); };
  std::atomic<int> made_ = 0;
  std::atomic<int> alive_ = 0;
};

TEST_F(JpegDecoderPoolTest, UsesALaneAgain) {
  const auto pool = Pool(4);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(pool->Decode({}, nullptr).ok());
  EXPECT_EQ(made_, 1);
}

TEST_F(JpegDecoderPoolTest, DecodesInAsManyThreadsAsItHasLanesAndNoMore) {
  const auto pool = Pool(3);
  std::latch all_busy(3);
  std::atomic<int> busy = 0, most = 0;
  decode_ = [&](uint8_t*) {
    const int now = ++busy;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    if (all_busy.try_wait() == false) all_busy.arrive_and_wait();
    --busy;
    return absl::OkStatus();
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { EXPECT_TRUE(pool->Decode({}, nullptr).ok()); });
  }
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 50; ++j) EXPECT_TRUE(pool->Decode({}, nullptr).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 3);
  EXPECT_EQ(made_, 3);
}

TEST_F(JpegDecoderPoolTest, ReplacesALaneThatFailed) {
  const auto pool = Pool(1);
  decode_ = [](uint8_t*) { return absl::InternalError("status 6"); };
  EXPECT_EQ(pool->Decode({}, nullptr).message(), "status 6");
  EXPECT_EQ(alive_, 0);
  decode_ = [](uint8_t*) { return absl::OkStatus(); };
  EXPECT_TRUE(pool->Decode({}, nullptr).ok());
  EXPECT_EQ(made_, 2);
}

TEST_F(JpegDecoderPoolTest, KeepsALaneThatDoesNotTakeAPhoto) {
  const auto pool = Pool(1);
  decode_ = [](uint8_t*) { return absl::UnimplementedError("4:1:0"); };
  for (int i = 0; i < 2 * JpegDecoderPool::kMaxFailures; ++i) {
    EXPECT_TRUE(absl::IsUnimplemented(pool->Decode({}, nullptr)));
  }
  EXPECT_EQ(made_, 1);
}

TEST_F(JpegDecoderPoolTest, GivesUpAfterManyFailuresInARow) {
  const auto pool = Pool(1);
  int calls = 0;
  decode_ = [&](uint8_t*) {
    // One that went well starts the count again.
    return ++calls == 5 ? absl::OkStatus() : absl::InternalError("status 6");
  };
  for (int i = 0; i < 5 + JpegDecoderPool::kMaxFailures - 1; ++i) {
    EXPECT_FALSE(absl::IsUnavailable(pool->Decode({}, nullptr))) << i;
  }
  const absl::Status last = pool->Decode({}, nullptr);
  EXPECT_TRUE(absl::IsUnavailable(last));
  EXPECT_THAT(std::string(last.message()), testing::HasSubstr("8 photos in a row failed"));
  EXPECT_THAT(std::string(last.message()), testing::HasSubstr("status 6"));
  const int made = made_;
  EXPECT_TRUE(absl::IsUnavailable(pool->Decode({}, nullptr)));
  EXPECT_EQ(made_, made);
}

TEST_F(JpegDecoderPoolTest, ALostDeviceIsNotTriedAgain) {
  const auto pool = Pool(2);
  EXPECT_TRUE(pool->Decode({}, nullptr).ok());
  decode_ = [](uint8_t*) { return absl::UnavailableError("the device is lost"); };
  EXPECT_TRUE(absl::IsUnavailable(pool->Decode({}, nullptr)));
  EXPECT_EQ(alive_, 0);
  decode_ = [](uint8_t*) { return absl::OkStatus(); };
  EXPECT_EQ(pool->Decode({}, nullptr).message(), "the device is lost");
  EXPECT_EQ(made_, 1);
}

TEST_F(JpegDecoderPoolTest, CountsLanesThatCannotBeMadeAsFailures) {
  const auto pool = Pool(1);
  make_ = absl::ResourceExhaustedError("out of memory");
  EXPECT_TRUE(absl::IsResourceExhausted(pool->Decode({}, nullptr)));
  make_ = absl::OkStatus();
  EXPECT_TRUE(pool->Decode({}, nullptr).ok());
}

}  // namespace
}  // namespace dla::gpu
