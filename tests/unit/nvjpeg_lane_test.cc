// Decoding as on a card, with libjpeg in place of nvJPEG and the heap in place of the card's
// memory.
#include "model/cuda/nvjpeg_lane.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "model/codec/decoders.h"
#include "model/gpu/plain_jpeg.h"
#include "tests/support/shim_launcher.h"
#include "tests/unit/photo_files.h"

namespace dla::cuda {
namespace {

TEST(NvjpegApiTest, FindsEveryFunctionInNvidiasLibrary) {
  const std::vector<std::string> folders =
      absl::StrSplit(DLA_CUDA_LIBRARIES, ':', absl::SkipEmpty());
  const auto api = LoadNvjpeg(folders);
  if (!api.ok() && absl::StrContains(api.status().message(), "; install")) {
    GTEST_SKIP() << api.status().message();
  }
  ASSERT_TRUE(api.ok()) << api.status();
  EXPECT_EQ(*api, *LoadNvjpeg(folders));
}

// What the stand-in for libnvjpeg was told and is to do; its functions know no object of theirs.
struct FakeLibrary {
  std::map<std::string, int> status;  // of the function; 0 where there is none
  std::vector<std::string> calls;
  std::set<void*> alive;
  absl::string_view parsed;
  bool supported = true;
  unsigned flags = 0;

  int Call(const char* function) {
    calls.push_back(function);
    const auto found = status.find(function);
    return found == status.end() ? 0 : found->second;
  }
};
FakeLibrary* library = nullptr;

template <typename T>
int Make(const char* function, T* made) {
  const int status = library->Call(function);
  if (status != 0) return status;
  *made = reinterpret_cast<T>(new char);
  library->alive.insert(*made);
  return 0;
}

template <typename T>
int Destroy(T made) {
  EXPECT_EQ(library->alive.erase(made), 1u);
  delete reinterpret_cast<char*>(made);
  return 0;
}

int DecodeTo(NvjpegImage* image, absl::string_view bytes) {
  const auto decoded = codec::DecodeJpeg(bytes, DecodeOptions());
  EXPECT_TRUE(decoded.ok()) << decoded.status();
  if (!decoded.ok()) return kNvjpegBadJpeg;
  for (int y = 0; y < decoded->image.height; ++y) {
    std::memcpy(image->channel[0] + y * image->pitch[0],
                decoded->image.pixels.data() + y * decoded->image.row_bytes(),
                decoded->image.row_bytes());
  }
  return 0;
}

absl::string_view Text(const unsigned char* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

const NvjpegApi kApi = {
    .create =
        [](int, void*, void*, unsigned flags, NvjpegHandle* made) {
          library->flags = flags;
          return Make(flags != 0 ? "create with flags" : "create", made);
        },
    .destroy = Destroy<NvjpegHandle>,
    .state_create = [](NvjpegHandle, NvjpegState* made) { return Make("state", made); },
    .state_destroy = Destroy<NvjpegState>,
    .stream_create = [](NvjpegHandle, NvjpegStream* made) { return Make("stream", made); },
    .stream_destroy = Destroy<NvjpegStream>,
    .stream_parse =
        [](NvjpegHandle, const unsigned char* data, size_t size, int, int, NvjpegStream) {
          library->parsed = Text(data, size);
          return library->Call("parse");
        },
    .stream_parse_header = [](NvjpegHandle, const unsigned char*, size_t,
                              NvjpegStream) { return library->Call("parse header"); },
    .batched_supported =
        [](NvjpegHandle, NvjpegStream, int* supported) {
          *supported = library->supported ? 0 : 1;
          return library->Call("batch supported");
        },
    .batched_initialize =
        [](NvjpegHandle, NvjpegState, int batch, int, int format) {
          EXPECT_EQ(batch, 1);
          EXPECT_EQ(format, kNvjpegOutputRgbi);
          return library->Call("initialize");
        },
    .batched_decode =
        [](NvjpegHandle, NvjpegState, const unsigned char* const* data, const size_t* sizes,
           NvjpegImage* image, Stream) {
          const int status = library->Call("decode batch");
          return status != 0 ? status : DecodeTo(image, Text(*data, *sizes));
        },
    .decoder_create = [](NvjpegHandle, int, NvjpegDecoder* made) { return Make("decoder", made); },
    .decoder_destroy = Destroy<NvjpegDecoder>,
    .decoder_state_create = [](NvjpegHandle, NvjpegDecoder,
                               NvjpegState* made) { return Make("state", made); },
    .decoder_supported =
        [](NvjpegDecoder, NvjpegStream, NvjpegParams, int* supported) {
          *supported = library->supported ? 0 : 1;
          return library->Call("supported");
        },
    .params_create = [](NvjpegHandle, NvjpegParams* made) { return Make("params", made); },
    .params_destroy = Destroy<NvjpegParams>,
    .params_set_format =
        [](NvjpegParams, int format) {
          EXPECT_EQ(format, kNvjpegOutputRgbi);
          return library->Call("format");
        },
    .pinned_buffer_create = [](NvjpegHandle, void*,
                               NvjpegPinnedBuffer* made) { return Make("pinned", made); },
    .pinned_buffer_destroy = Destroy<NvjpegPinnedBuffer>,
    .device_buffer_create = [](NvjpegHandle, void*,
                               NvjpegDeviceBuffer* made) { return Make("device", made); },
    .device_buffer_destroy = Destroy<NvjpegDeviceBuffer>,
    .attach_pinned_buffer = [](NvjpegState,
                               NvjpegPinnedBuffer) { return library->Call("attach pinned"); },
    .attach_device_buffer = [](NvjpegState,
                               NvjpegDeviceBuffer) { return library->Call("attach device"); },
    .decode_host = [](NvjpegHandle, NvjpegDecoder, NvjpegState, NvjpegParams,
                      NvjpegStream) { return library->Call("host"); },
    .decode_transfer = [](NvjpegHandle, NvjpegDecoder, NvjpegState, NvjpegStream,
                          Stream) { return library->Call("transfer"); },
    .decode_device =
        [](NvjpegHandle, NvjpegDecoder, NvjpegState, NvjpegImage* image, Stream) {
          const int status = library->Call("decode device");
          return status != 0 ? status : DecodeTo(image, library->parsed);
        },
};

// Memory in blocks of just the size that was asked for, so that a sanitizer sees what goes beyond.
class FakeCard : public Card {
 public:
  ~FakeCard() override {
    EXPECT_TRUE(blocks_.empty()) << "memory was not freed";
    EXPECT_EQ(streams_, 0);
  }

  absl::Status Use() const override { return absl::OkStatus(); }
  absl::StatusOr<void*> Allocate(size_t bytes) const override {
    if (allocated_ + 1 > fail_after) return absl::ResourceExhaustedError("no memory");
    ++allocated_;
    char* block = new char[bytes];
    blocks_.insert(block);
    return block;
  }
  void Free(void* memory) const override {
    if (memory == nullptr) return;
    EXPECT_FALSE(pending_) << "freed while in use";
    EXPECT_EQ(blocks_.erase(static_cast<char*>(memory)), 1u);
    delete[] static_cast<char*>(memory);
  }
  absl::StatusOr<Stream> MakeStream() const override {
    ++streams_;
    return reinterpret_cast<Stream>(&streams_);
  }
  void Destroy(Stream) const override { --streams_; }
  absl::Status CopyIn(void* card, const void* host, size_t bytes, Stream) const override {
    pending_ = true;
    std::memcpy(card, host, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyOut(void* host, const void* card, size_t bytes, Stream) const override {
    pending_ = true;
    std::memcpy(host, card, bytes);
    return copy_out;
  }
  absl::Status Wait(Stream) const override {
    pending_ = false;
    return wait;
  }

  int allocated() const { return allocated_; }
  bool pending() const { return pending_; }

  int fail_after = 1000;  // allocations
  absl::Status copy_out;
  absl::Status wait;

 private:
  mutable std::set<char*> blocks_;
  mutable int allocated_ = 0;
  mutable int streams_ = 0;
  mutable bool pending_ = false;  // something was begun and not waited for
};

class NvjpegLaneTest : public ::testing::TestWithParam<NvjpegBackend> {
 protected:
  NvjpegLaneTest() { library = &library_; }
  ~NvjpegLaneTest() override {
    lane_.reset();
    nvjpeg_.reset();
    EXPECT_TRUE(library_.alive.empty()) << "something of nvJPEG's was not destroyed";
    library = nullptr;
  }

  absl::Status Start() {
    const auto nvjpeg =
        Nvjpeg::Create(kApi, GetParam(), card_,
                       std::make_shared<const PixelKernels>(std::make_unique<ShimLauncher>()));
    if (!nvjpeg.ok()) return nvjpeg.status();
    nvjpeg_ = *nvjpeg;
    auto lane = Nvjpeg::MakeLane(nvjpeg_);
    if (!lane.ok()) return lane.status();
    lane_ = *std::move(lane);
    return absl::OkStatus();
  }

  absl::Status Decode(const std::string& bytes) {
    const auto photo = gpu::PlanJpeg(bytes, InputSpec(), LoadImageOptions());
    if (!photo.ok()) return photo.status();
    out_.assign(size_t{3} * 224 * 224, 0);
    absl::Status status = lane_->Decode(*photo, out_.data());
    EXPECT_FALSE(card_->pending()) << "the card may still use the caller's memory";
    return status;
  }

  FakeLibrary library_;
  const std::shared_ptr<FakeCard> card_ = std::make_shared<FakeCard>();
  std::shared_ptr<const Nvjpeg> nvjpeg_;
  std::unique_ptr<gpu::JpegLane> lane_;
  std::vector<uint8_t> out_;
};

INSTANTIATE_TEST_SUITE_P(Backends, NvjpegLaneTest,
                         ::testing::Values(kNvjpegHardware, kNvjpegGpuHybrid),
                         [](const auto& backend) {
                           return backend.param == kNvjpegHardware ? "Engines" : "Hybrid";
                         });

TEST_P(NvjpegLaneTest, GivesThePixelsOfTheProcessorsWay) {
  ASSERT_TRUE(Start().ok());
  std::vector<std::string> names = {"baseline.jpg", "12_megapixels.jpg", "chroma_422.jpg",
                                    "chroma_444.jpg", "restart_markers.jpg"};
  for (int i = 1; i <= 8; ++i) names.push_back("orientation_" + std::to_string(i) + ".jpg");
  for (const std::string& name : names) {
    const std::string bytes = GoldenInput(name);
    ASSERT_TRUE(Decode(bytes).ok()) << name;
    const auto expected = LoadImage(bytes, InputSpec(), {.reduced_scale_decode = false});
    ASSERT_TRUE(expected.ok());
    EXPECT_TRUE(std::equal(out_.begin(), out_.end(), expected->pixels.begin())) << name;
  }
}

TEST_P(NvjpegLaneTest, UsesItsMemoryAgain) {
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Decode(GoldenInput("12_megapixels.jpg")).ok());
  const int allocated = card_->allocated();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Decode(GoldenInput("baseline.jpg")).ok());
    ASSERT_TRUE(Decode(GoldenInput("12_megapixels.jpg")).ok());
  }
  EXPECT_EQ(card_->allocated(), allocated);
}

TEST_P(NvjpegLaneTest, AsksForInterpolatedChromaAndDoesWithout) {
  ASSERT_TRUE(Start().ok());
  EXPECT_EQ(library_.flags, kNvjpegInterpolateChroma);
  lane_.reset();
  nvjpeg_.reset();
  library_.status["create with flags"] = 2;  // an older library
  ASSERT_TRUE(Start().ok());
  EXPECT_EQ(library_.flags, 0u);
  EXPECT_TRUE(Decode(GoldenInput("baseline.jpg")).ok());
}

TEST_P(NvjpegLaneTest, ACardWithoutTheBackendIsTold) {
  library_.status["create with flags"] = kNvjpegArchMismatch;
  EXPECT_TRUE(absl::IsUnimplemented(Start()));
}

TEST_P(NvjpegLaneTest, WhatTheLibraryDoesNotTakeIsNoFailure) {
  ASSERT_TRUE(Start().ok());
  library_.supported = false;
  EXPECT_TRUE(absl::IsUnimplemented(Decode(GoldenInput("baseline.jpg"))));
  library_.supported = true;
  for (const char* function : {"decode batch", "decode device"}) {
    library_.status[function] = kNvjpegBadJpeg;
  }
  EXPECT_TRUE(absl::IsUnimplemented(Decode(GoldenInput("baseline.jpg"))));
  library_.status.clear();
  EXPECT_TRUE(Decode(GoldenInput("baseline.jpg")).ok());
}

TEST_P(NvjpegLaneTest, PassesOnWhyThePhotoFailed) {
  ASSERT_TRUE(Start().ok());
  card_->copy_out = absl::InternalError("copying");
  EXPECT_EQ(Decode(GoldenInput("baseline.jpg")).message(), "copying");
  card_->wait = absl::UnavailableError("the device is lost");
  EXPECT_TRUE(absl::IsUnavailable(Decode(GoldenInput("baseline.jpg"))));
  card_->copy_out = absl::OkStatus();
  EXPECT_TRUE(absl::IsUnavailable(Decode(GoldenInput("baseline.jpg"))));
}

TEST_P(NvjpegLaneTest, LacksNoMemoryAfterItLackedSome) {
  ASSERT_TRUE(Start().ok());
  for (int allocations = 0; allocations < 4; ++allocations) {
    card_->fail_after = card_->allocated();
    EXPECT_TRUE(absl::IsResourceExhausted(Decode(GoldenInput("baseline.jpg")))) << allocations;
    card_->fail_after = card_->allocated() + 1;
    const absl::Status status = Decode(GoldenInput("baseline.jpg"));
    EXPECT_EQ(status.ok(), allocations == 3) << status;
  }
}

// Whatever fails at the start, nothing is left behind (see the destructor) and nothing crashes.
TEST_P(NvjpegLaneTest, EveryFailureAtTheStartIsTold) {
  ASSERT_TRUE(Start().ok());
  lane_.reset();
  nvjpeg_.reset();
  const std::vector<std::string> calls = library_.calls;
  for (const std::string& call : calls) {
    if (call == "create with flags") continue;
    library_.status = {{call, 8}};
    EXPECT_EQ(Start().code(), absl::StatusCode::kInternal) << call;
    nvjpeg_.reset();
    EXPECT_TRUE(library_.alive.empty()) << call;
  }
}

// Likewise for every step of a decode.
TEST_P(NvjpegLaneTest, EveryFailureOfAStepIsTold) {
  ASSERT_TRUE(Start().ok());
  library_.calls.clear();
  ASSERT_TRUE(Decode(GoldenInput("baseline.jpg")).ok());
  const std::vector<std::string> calls = library_.calls;
  EXPECT_GE(calls.size(), 3u);
  for (const std::string& call : calls) {
    library_.status = {{call, 6}};
    EXPECT_EQ(Decode(GoldenInput("baseline.jpg")).code(), absl::StatusCode::kInternal) << call;
  }
  library_.status = {{calls.back(), kNvjpegAllocatorFailure}};
  EXPECT_TRUE(absl::IsResourceExhausted(Decode(GoldenInput("baseline.jpg"))));
}

}  // namespace
}  // namespace dla::cuda
