#include "server/decoder_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "model/image_codec.h"
#include "tests/support/fake_clock.h"

namespace dla::server {
namespace {

using ::testing::HasSubstr;

class DecoderChoiceTest : public ::testing::Test {
 protected:
  DecoderChoiceTest() {
    trial_.photos = {"a", "b"};
    trial_.max_mean_difference = 0.5;
  }

  // Takes so long for a photo, and gives pixels of which every second one has this value, the
  // others 100.
  DecoderCandidate Candidate(std::string name, int milliseconds, uint8_t value = 100) {
    return {std::move(name), [this, milliseconds, value](absl::string_view, const InputSpec&,
                                                         const Proceed&, const auto&) {
              clock_.Advance(std::chrono::milliseconds(milliseconds));
              Image image{.height = 1, .width = 2};
              image.pixels.assign(6, 100);
              for (size_t i = 0; i < 6; i += 2) image.pixels[i] = value;
              return image;
            }};
  }

  DecoderCandidate Failing(std::string name, absl::Status status) {
    return {std::move(name),
            [status](absl::string_view, const InputSpec&, const Proceed&,
                     const auto&) -> absl::StatusOr<Image> { return status; }};
  }

  DecoderChoice Choose(std::vector<DecoderCandidate> candidates) {
    return ChooseDecoder(candidates, trial_, clock_);
  }

  FakeClock clock_;
  DecoderTrial trial_;
};

TEST_F(DecoderChoiceTest, TakesTheFastest) {
  const DecoderChoice choice =
      Choose({Candidate("cpu", 10), Candidate("engines", 5), Candidate("hybrid", 2)});
  EXPECT_EQ(choice.chosen, 2u);
  EXPECT_DOUBLE_EQ(choice.results[0].photos_per_second, 100);
  EXPECT_DOUBLE_EQ(choice.results[1].photos_per_second, 200);
  EXPECT_DOUBLE_EQ(choice.results[2].photos_per_second, 500);
  EXPECT_EQ(choice.why, "cpu 100 photos/s, engines 200 photos/s, hybrid 500 photos/s");
}

TEST_F(DecoderChoiceTest, KeepsTheProcessorUnlessACardIsATenthFaster) {
  EXPECT_EQ(Choose({Candidate("cpu", 10), Candidate("card", 20)}).chosen, 0u);
  EXPECT_EQ(Choose({Candidate("cpu", 107), Candidate("card", 100)}).chosen, 0u);
  EXPECT_EQ(Choose({Candidate("cpu", 113), Candidate("card", 100)}).chosen, 1u);
}

TEST_F(DecoderChoiceTest, KeepsTheProcessorWhereACardsPixelsAreOthers) {
  const DecoderChoice near = Choose({Candidate("cpu", 10), Candidate("card", 1, 101)});
  EXPECT_EQ(near.chosen, 1u);
  EXPECT_DOUBLE_EQ(near.results[1].mean_difference, 0.5);
  const DecoderChoice far = Choose({Candidate("cpu", 10), Candidate("card", 1, 98)});
  EXPECT_EQ(far.chosen, 0u);
  EXPECT_DOUBLE_EQ(far.results[1].mean_difference, 1);
  EXPECT_THAT(far.why, HasSubstr("card gives other pixels: 1.000 levels of 255 away, at most 0.5"));
}

TEST_F(DecoderChoiceTest, KeepsTheProcessorWhereACardFails) {
  const DecoderChoice choice =
      Choose({Candidate("cpu", 10), Failing("card", absl::UnavailableError("the device is lost"))});
  EXPECT_EQ(choice.chosen, 0u);
  EXPECT_THAT(choice.why, HasSubstr("card fails: the device is lost; cpu 100 photos/s"));
}

TEST_F(DecoderChoiceTest, ACardThatFailsDuringTheTrialIsNotTaken) {
  int calls = 0;
  DecoderCandidate card = Candidate("card", 1);
  card.decode = [&calls, decode = card.decode](absl::string_view bytes, const InputSpec& spec,
                                               const Proceed& proceed,
                                               auto memory) -> absl::StatusOr<Image> {
    if (++calls > 20) return absl::InternalError("status 6");
    return decode(bytes, spec, proceed, memory);
  };
  const DecoderChoice choice = Choose({Candidate("cpu", 10), card});
  EXPECT_EQ(choice.chosen, 0u);
  EXPECT_EQ(choice.results[1].status.message(), "status 6");
}

TEST_F(DecoderChoiceTest, DecodesAllPhotosInAllThreads) {
  trial_.threads = 3;
  std::mutex mutex;
  std::set<std::thread::id> prepared, decoded;
  std::set<std::string> photos;
  trial_.prepare_thread = [&] {
    const std::lock_guard lock(mutex);
    prepared.insert(std::this_thread::get_id());
  };
  DecoderCandidate cpu = Candidate("cpu", 10);
  cpu.decode = [&, decode = cpu.decode](absl::string_view bytes, const InputSpec& spec,
                                        const Proceed& proceed, auto memory) {
    {
      const std::lock_guard lock(mutex);
      decoded.insert(std::this_thread::get_id());
      photos.emplace(bytes);
    }
    return decode(bytes, spec, proceed, memory);
  };
  EXPECT_EQ(Choose({cpu}).chosen, 0u);
  EXPECT_EQ(prepared.size(), 3u);
  EXPECT_TRUE(std::includes(decoded.begin(), decoded.end(), prepared.begin(), prepared.end()));
  EXPECT_EQ(photos, (std::set<std::string>{"a", "b"}));
}

TEST(TrialPhotoTest, IsOneThatCardsDecode) {
  const auto photo = MakeTrialPhoto();
  ASSERT_TRUE(photo.ok()) << photo.status();
  const auto decoded = DecodeImage(*photo, DecodeOptions());
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->full_width, 480);
  EXPECT_GT(photo->size(), 30'000u);  // detail, not an empty sky
  EXPECT_LT(photo->size(), 200'000u);
}

}  // namespace
}  // namespace dla::server
