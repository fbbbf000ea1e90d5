#include "model/cuda/nvjpeg_lane.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "model/status_macros.h"

namespace dla::cuda {
namespace {

absl::Status CheckNvjpeg(int status, absl::string_view doing) {
  const auto message = [&] { return absl::StrCat("nvJPEG, ", doing, ": status ", status); };
  switch (status) {
    case kNvjpegSuccess:
      return absl::OkStatus();
    case kNvjpegBadJpeg:
    case kNvjpegJpegNotSupported:
    case kNvjpegArchMismatch:
    case kNvjpegImplementationNotSupported:
    case kNvjpegIncompleteBitstream:
      return absl::UnimplementedError(message());
    case kNvjpegAllocatorFailure:
      return absl::ResourceExhaustedError(message());
    default:
      return absl::InternalError(message());
  }
}

// Memory of a card that grows and is used again.
class CardBuffer {
 public:
  explicit CardBuffer(const Card& card) : card_(card) {}
  ~CardBuffer() { card_.Free(data_); }
  CardBuffer(const CardBuffer&) = delete;
  CardBuffer& operator=(const CardBuffer&) = delete;

  // What it held is lost when it grows.
  absl::Status Reserve(size_t bytes) {
    if (bytes <= size_) return absl::OkStatus();
    constexpr size_t kStep = 1 << 20;  // photos of about the same size need no new memory
    bytes = (bytes + kStep - 1) / kStep * kStep;
    card_.Free(std::exchange(data_, nullptr));
    size_ = 0;
    DLA_ASSIGN_OR_RETURN(data_, card_.Allocate(bytes));
    size_ = bytes;
    return absl::OkStatus();
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  const Card& card_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace

Nvjpeg::Nvjpeg(const NvjpegApi& api, NvjpegBackend backend, std::shared_ptr<const Card> card,
               std::shared_ptr<const PixelKernels> kernels)
    : api_(api), backend_(backend), card_(std::move(card)), kernels_(std::move(kernels)) {}

absl::StatusOr<std::shared_ptr<const Nvjpeg>> Nvjpeg::Create(
    const NvjpegApi& api, NvjpegBackend backend, std::shared_ptr<const Card> card,
    std::shared_ptr<const PixelKernels> kernels) {
  DLA_RETURN_IF_ERROR(card->Use());
  const std::shared_ptr<Nvjpeg> made(new Nvjpeg(api, backend, std::move(card), std::move(kernels)));
  int status = api.create(backend, nullptr, nullptr, kNvjpegInterpolateChroma, &made->handle_);
  if (status != kNvjpegSuccess && status != kNvjpegArchMismatch) {
    made->handle_ = nullptr;
    status = api.create(backend, nullptr, nullptr, 0, &made->handle_);
  }
  if (status != kNvjpegSuccess) made->handle_ = nullptr;
  DLA_RETURN_IF_ERROR(CheckNvjpeg(status, "starting"));
  if (backend == kNvjpegGpuHybrid) {
    DLA_RETURN_IF_ERROR(CheckNvjpeg(api.decoder_create(made->handle_, backend, &made->decoder_),
                                    "making a decoder"));
    DLA_RETURN_IF_ERROR(
        CheckNvjpeg(api.params_create(made->handle_, &made->params_), "making parameters"));
    DLA_RETURN_IF_ERROR(
        CheckNvjpeg(api.params_set_format(made->params_, kNvjpegOutputRgbi), "choosing a format"));
  }
  return made;
}

Nvjpeg::~Nvjpeg() {
  (void)card_->Use();
  if (params_ != nullptr) api_.params_destroy(params_);
  if (decoder_ != nullptr) api_.decoder_destroy(decoder_);
  if (handle_ != nullptr) api_.destroy(handle_);
}

class NvjpegLane final : public gpu::JpegLane {
 public:
  explicit NvjpegLane(std::shared_ptr<const Nvjpeg> nvjpeg)
      : nvjpeg_(std::move(nvjpeg)),
        api_(nvjpeg_->api_),
        card_(*nvjpeg_->card_),
        hardware_(nvjpeg_->backend_ == kNvjpegHardware),
        decoded_(card_),
        scratch_(card_),
        tables_(card_),
        result_(card_) {}

  ~NvjpegLane() override {
    (void)card_.Use();
    if (stream_ != nullptr) (void)card_.Wait(stream_);
    if (jpeg_ != nullptr) api_.stream_destroy(jpeg_);
    if (state_ != nullptr) api_.state_destroy(state_);
    if (pinned_ != nullptr) api_.pinned_buffer_destroy(pinned_);
    if (device_ != nullptr) api_.device_buffer_destroy(device_);
    if (stream_ != nullptr) card_.Destroy(stream_);
  }

  // To be called once, first.
  absl::Status Allocate() {
    DLA_RETURN_IF_ERROR(card_.Use());
    DLA_ASSIGN_OR_RETURN(stream_, card_.MakeStream());
    const NvjpegHandle handle = nvjpeg_->handle_;
    DLA_RETURN_IF_ERROR(CheckNvjpeg(api_.stream_create(handle, &jpeg_), "making a stream"));
    if (hardware_) {
      DLA_RETURN_IF_ERROR(CheckNvjpeg(api_.state_create(handle, &state_), "making a state"));
      return Initialize();
    }
    DLA_RETURN_IF_ERROR(CheckNvjpeg(api_.decoder_state_create(handle, nvjpeg_->decoder_, &state_),
                                    "making a state"));
    DLA_RETURN_IF_ERROR(
        CheckNvjpeg(api_.pinned_buffer_create(handle, nullptr, &pinned_), "making a buffer"));
    DLA_RETURN_IF_ERROR(
        CheckNvjpeg(api_.device_buffer_create(handle, nullptr, &device_), "making a buffer"));
    DLA_RETURN_IF_ERROR(
        CheckNvjpeg(api_.attach_pinned_buffer(state_, pinned_), "attaching a buffer"));
    return CheckNvjpeg(api_.attach_device_buffer(state_, device_), "attaching a buffer");
  }

  absl::Status Decode(const gpu::JpegPhoto& photo, uint8_t* out) override {
    DLA_RETURN_IF_ERROR(card_.Use());
    absl::Status status = Begin(photo, out);
    // In any case: what was begun uses the photo and `out`.
    absl::Status done = card_.Wait(stream_);
    if (absl::IsUnavailable(done) || status.ok()) return done;
    return status;
  }

 private:
  // A batch of one. Also makes a state usable again after an error.
  absl::Status Initialize() {
    return CheckNvjpeg(api_.batched_initialize(nvjpeg_->handle_, state_, 1, 1, kNvjpegOutputRgbi),
                       "preparing a batch");
  }

  absl::Status Begin(const gpu::JpegPhoto& photo, uint8_t* out) {
    const gpu::ResizePlan& plan = photo.plan;
    const size_t stride = size_t{3} * photo.width;
    const size_t tables_bytes = plan.tables.size() * sizeof(plan.tables[0]);
    const size_t result_bytes = size_t{3} * plan.height * plan.width;
    DLA_RETURN_IF_ERROR(decoded_.Reserve(stride * photo.height));
    DLA_RETURN_IF_ERROR(scratch_.Reserve(plan.scratch_bytes()));
    DLA_RETURN_IF_ERROR(tables_.Reserve(tables_bytes));
    DLA_RETURN_IF_ERROR(result_.Reserve(result_bytes));

    NvjpegImage image = {};
    image.channel[0] = decoded_.as<unsigned char>();
    image.pitch[0] = stride;
    DLA_RETURN_IF_ERROR(hardware_ ? DecodeWithEngines(photo, image) : DecodeInSteps(photo, image));
    DLA_RETURN_IF_ERROR(
        card_.CopyIn(tables_.as<void>(), plan.tables.data(), tables_bytes, stream_));
    const PixelKernels::PhotoView view = Upright(decoded_.as<uint8_t>(), photo.height, photo.width,
                                                 static_cast<int64_t>(stride), photo.orientation);
    DLA_RETURN_IF_ERROR(nvjpeg_->kernels_->Resize(
        plan, tables_.as<int32_t>(), view, scratch_.as<uint8_t>(), result_.as<uint8_t>(), stream_));
    return card_.CopyOut(out, result_.as<void>(), result_bytes, stream_);
  }

  absl::Status DecodeWithEngines(const gpu::JpegPhoto& photo, NvjpegImage& image) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(photo.bytes.data());
    const size_t size = photo.bytes.size();
    DLA_RETURN_IF_ERROR(CheckNvjpeg(api_.stream_parse_header(nvjpeg_->handle_, bytes, size, jpeg_),
                                    "reading a header"));
    int unsupported = 1;
    DLA_RETURN_IF_ERROR(CheckNvjpeg(api_.batched_supported(nvjpeg_->handle_, jpeg_, &unsupported),
                                    "judging a photo"));
    if (unsupported != 0) return absl::UnimplementedError("the card's JPEG engines do not take it");
    absl::Status status = CheckNvjpeg(
        api_.batched_decode(nvjpeg_->handle_, state_, &bytes, &size, &image, stream_), "decoding");
    if (absl::IsUnimplemented(status)) DLA_RETURN_IF_ERROR(Initialize());
    return status;
  }

  absl::Status DecodeInSteps(const gpu::JpegPhoto& photo, NvjpegImage& image) {
    const NvjpegHandle handle = nvjpeg_->handle_;
    const NvjpegDecoder decoder = nvjpeg_->decoder_;
    const auto* bytes = reinterpret_cast<const unsigned char*>(photo.bytes.data());
    DLA_RETURN_IF_ERROR(CheckNvjpeg(
        api_.stream_parse(handle, bytes, photo.bytes.size(), 0, 0, jpeg_), "reading a header"));
    int unsupported = 1;
    DLA_RETURN_IF_ERROR(CheckNvjpeg(
        api_.decoder_supported(decoder, jpeg_, nvjpeg_->params_, &unsupported), "judging a photo"));
    if (unsupported != 0) return absl::UnimplementedError("nvJPEG does not take it");
    DLA_RETURN_IF_ERROR(CheckNvjpeg(
        api_.decode_host(handle, decoder, state_, nvjpeg_->params_, jpeg_), "decoding (host)"));
    DLA_RETURN_IF_ERROR(CheckNvjpeg(api_.decode_transfer(handle, decoder, state_, jpeg_, stream_),
                                    "decoding (copy)"));
    return CheckNvjpeg(api_.decode_device(handle, decoder, state_, &image, stream_),
                       "decoding (device)");
  }

  const std::shared_ptr<const Nvjpeg> nvjpeg_;
  const NvjpegApi& api_;
  const Card& card_;
  const bool hardware_;
  CardBuffer decoded_;
  CardBuffer scratch_;
  CardBuffer tables_;
  CardBuffer result_;
  Stream stream_ = nullptr;
  NvjpegStream jpeg_ = nullptr;
  NvjpegState state_ = nullptr;
  NvjpegPinnedBuffer pinned_ = nullptr;  // these two: of kNvjpegGpuHybrid only
  NvjpegDeviceBuffer device_ = nullptr;
};

absl::StatusOr<std::unique_ptr<gpu::JpegLane>> Nvjpeg::MakeLane(
    std::shared_ptr<const Nvjpeg> nvjpeg) {
  auto lane = std::make_unique<NvjpegLane>(std::move(nvjpeg));
  DLA_RETURN_IF_ERROR(lane->Allocate());
  return lane;
}

}  // namespace dla::cuda
