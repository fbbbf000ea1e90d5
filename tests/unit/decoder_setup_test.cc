#include "server/decoder_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "server/card_decode.h"
#include "server/decoders.h"
#include "tests/support/fake_gpu.h"
#include "tests/unit/photo_files.h"

namespace dla::server {
namespace {

using ::testing::HasSubstr;

// What a card decodes: every pixel the same.
class FlatDecoder : public gpu::JpegDecoder {
 public:
  absl::Status Decode(const gpu::JpegPhoto& photo, uint8_t* out) override {
    ++calls;
    if (!status.ok()) return status;
    std::fill_n(out, size_t{3} * photo.plan.height * photo.plan.width, 77);
    return absl::OkStatus();
  }
  std::atomic<int> calls = 0;
  absl::Status status;
};

class CardDecodeTest : public ::testing::Test {
 protected:
  DecodeFunction Decode() {
    return DecodeWithFallback("card", card_, LoadOptionsOf(config_),
                              [this](absl::string_view bytes, const InputSpec& spec,
                                     const Proceed& proceed, std::shared_ptr<PixelMemory> memory) {
                                ++processor_;
                                return RealDecode(config_)(bytes, spec, proceed, std::move(memory));
                              });
  }

  ServerConfig config_;
  const std::shared_ptr<FlatDecoder> card_ = std::make_shared<FlatDecoder>();
  int processor_ = 0;
  const std::string jpeg_ = GoldenInput("baseline.jpg");
};

TEST_F(CardDecodeTest, TakesTheCardsPixels) {
  const auto image = Decode()(jpeg_, InputSpec(), nullptr, nullptr);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->height, 224);
  EXPECT_EQ(image->width, 224);
  EXPECT_EQ(image->pixels, Pixels(size_t{3} * 224 * 224, 77));
  EXPECT_EQ(processor_, 0);
}

TEST_F(CardDecodeTest, LeavesOtherPhotosToTheProcessor) {
  const DecodeFunction decode = Decode();
  for (const char* name : {"rgb.png", "progressive.jpg", "grey.jpg", "cmyk.jpg", "lossy.webp"}) {
    EXPECT_TRUE(decode(GoldenInput(name), InputSpec(), nullptr, nullptr).ok()) << name;
  }
  EXPECT_EQ(processor_, 5);
  EXPECT_EQ(card_->calls, 0);
}

TEST_F(CardDecodeTest, ErrorsAreTheProcessors) {
  const DecodeFunction decode = Decode();
  for (const std::string& bytes : {std::string("nothing"), jpeg_.substr(0, 900)}) {
    const auto image = decode(bytes, InputSpec(), nullptr, nullptr);
    EXPECT_EQ(image.status(), RealDecode(config_)(bytes, InputSpec(), nullptr, nullptr).status());
    EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument);
  }
  config_.max_pixels = 100;
  EXPECT_THAT(std::string(Decode()(jpeg_, InputSpec(), nullptr, nullptr).status().message()),
              HasSubstr("97 x 75 is 7275 pixels, at most 100"));
  EXPECT_EQ(card_->calls, 0);
}

TEST_F(CardDecodeTest, APhotoThatTheCardFailsIsDecodedByTheProcessor) {
  const DecodeFunction decode = Decode();
  for (const absl::Status& status :
       {absl::InternalError("status 6"), absl::ResourceExhaustedError("no memory"),
        absl::UnimplementedError("4:1:1")}) {
    card_->status = status;
    const auto image = decode(jpeg_, InputSpec(), nullptr, nullptr);
    ASSERT_TRUE(image.ok());
    EXPECT_EQ(image->pixels, RealDecode(config_)(jpeg_, InputSpec(), nullptr, nullptr)->pixels);
  }
  EXPECT_EQ(card_->calls, 3);
}

TEST_F(CardDecodeTest, ALostCardIsNotAskedAgain) {
  const DecodeFunction decode = Decode();
  card_->status = absl::UnavailableError("the device is lost");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(decode(jpeg_, InputSpec(), nullptr, nullptr).ok());
  EXPECT_EQ(card_->calls, 1);
  EXPECT_EQ(processor_, 3);
}

TEST_F(CardDecodeTest, NobodyWaitingEndsItBeforeTheCardIsAsked) {
  int asked = 0;
  const Proceed proceed = [&asked] {
    ++asked;
    return absl::CancelledError("gone");
  };
  EXPECT_EQ(Decode()(jpeg_, InputSpec(), proceed, nullptr).status().message(), "gone");
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(card_->calls, 0);
  EXPECT_EQ(processor_, 0);
}

// Moves on by 10 ms whenever it is asked, so that every decoder seems as fast.
class TickingClock final : public Clock {
 public:
  TimePoint Now() override { return TimePoint() + 10 * std::chrono::milliseconds(++ticks_); }
  void WaitUntil(CondVar&, Mutex&, TimePoint) override {}

 private:
  std::atomic<int> ticks_ = 0;
};

// Cards whose decoders give the processor's pixels, plus `shift` levels.
class DecodingRuntime : public testing::FakeRuntime {
 public:
  DecodingRuntime() : FakeRuntime(2) {}

  absl::StatusOr<std::vector<gpu::NamedJpegDecoder>> MakeJpegDecoders(
      const std::vector<int>& devices, int threads) override {
    asked_for = devices;
    EXPECT_EQ(threads, 2);
    if (!status.ok()) return status;
    std::vector<gpu::NamedJpegDecoder> decoders;
    decoders.push_back({"nvjpeg (engines)", std::make_unique<Decoder>(*this)});
    return decoders;
  }

  std::vector<int> asked_for;
  absl::Status status;
  absl::Status decode_status;
  int shift = 0;
  std::atomic<int> calls = 0;

 private:
  struct Decoder : gpu::JpegDecoder {
    explicit Decoder(DecodingRuntime& r) : runtime(r) {}
    absl::Status Decode(const gpu::JpegPhoto& photo, uint8_t* out) override {
      ++runtime.calls;
      if (!runtime.decode_status.ok()) return runtime.decode_status;
      const auto image = LoadImage(photo.bytes, InputSpec(), {.reduced_scale_decode = false});
      for (size_t i = 0; i < image->pixels.size(); ++i) {
        out[i] = static_cast<uint8_t>(std::min(255, image->pixels[i] + runtime.shift));
      }
      return absl::OkStatus();
    }
    DecodingRuntime& runtime;
  };
};

class DecoderSetupTest : public ::testing::Test {
 protected:
  absl::StatusOr<DecodeFunction> SetUpIt() {
    return SetUpDecoder(
        config_, 2, nullptr,
        [this]() -> absl::StatusOr<gpu::Runtime*> {
          ++searches_;
          if (!no_cards_.ok()) return no_cards_;
          return &runtime_;
        },
        clock_);
  }

  bool UsesTheCard() {
    const auto decode = SetUpIt();
    EXPECT_TRUE(decode.ok()) << decode.status();
    const int before = runtime_.calls;
    EXPECT_TRUE((*decode)(GoldenInput("baseline.jpg"), InputSpec(), nullptr, nullptr).ok());
    return runtime_.calls > before;
  }

  ServerConfig config_;
  TickingClock clock_;
  DecodingRuntime runtime_;
  absl::Status no_cards_;
  int searches_ = 0;
};

TEST_F(DecoderSetupTest, CpuAsksForNoCard) {
  config_.decoder = "cpu";
  EXPECT_FALSE(UsesTheCard());
  config_.decoder = "auto";
  config_.defaults.device = "cpu";
  EXPECT_FALSE(UsesTheCard());
  config_.defaults.device = "auto";
  config_.calibrate = false;
  EXPECT_FALSE(UsesTheCard());
  EXPECT_EQ(searches_, 0);
}

TEST_F(DecoderSetupTest, AutoIsTheProcessorWithoutACard) {
  no_cards_ = absl::FailedPreconditionError("there is no NVIDIA driver");
  EXPECT_FALSE(UsesTheCard());
  no_cards_ = absl::OkStatus();
  runtime_.status = absl::NotFoundError("no libnvjpeg.so.13");
  EXPECT_FALSE(UsesTheCard());
}

TEST_F(DecoderSetupTest, AutoIsTheProcessorUnlessACardIsFaster) {
  EXPECT_FALSE(UsesTheCard());
  EXPECT_GT(runtime_.calls, 0) << "there was no trial";
}

TEST_F(DecoderSetupTest, NvjpegWithoutACardIsAnErrorThatSaysWhy) {
  config_.decoder = "nvjpeg";
  no_cards_ = absl::FailedPreconditionError("there is no NVIDIA driver");
  EXPECT_EQ(SetUpIt().status(),
            absl::FailedPreconditionError("--decoder nvjpeg: there is no NVIDIA driver"));
  no_cards_ = absl::OkStatus();
  config_.defaults.device = "cuda:5";
  EXPECT_THAT(std::string(SetUpIt().status().message()), HasSubstr("there is no cuda:5"));
  config_.defaults.device = "auto";
  runtime_.decode_status = absl::InternalError("status 6");
  EXPECT_THAT(std::string(SetUpIt().status().message()),
              HasSubstr("--decoder nvjpeg: nvjpeg (engines) fails: status 6"));
}

TEST_F(DecoderSetupTest, NvjpegUsesTheCardsThatDeviceNames) {
  config_.decoder = "nvjpeg";
  EXPECT_TRUE(UsesTheCard());
  EXPECT_EQ(runtime_.asked_for, (std::vector<int>{0, 1}));
  config_.defaults.device = "cuda:1";
  EXPECT_TRUE(UsesTheCard());
  EXPECT_EQ(runtime_.asked_for, (std::vector<int>{1}));
  config_.defaults.device = "cpu";  // of the models
  EXPECT_TRUE(UsesTheCard());
  EXPECT_EQ(runtime_.asked_for, (std::vector<int>{0, 1}));
}

TEST_F(DecoderSetupTest, NvjpegIsUsedThoughItsPixelsAreOthers) {
  config_.decoder = "nvjpeg";
  runtime_.shift = 3;
  EXPECT_TRUE(UsesTheCard());
}

}  // namespace
}  // namespace dla::server
