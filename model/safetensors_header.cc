#include "model/safetensors_header.h"

#include <exception>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "model/json.h"
#include "model/quoted.h"

namespace dla {
namespace {

using nlohmann::json;

constexpr size_t kMaxDimensions = 32;
constexpr int kMaxSkippedDepth = 32;

bool FindDType(absl::string_view name, DType& dtype) {
  for (DType known : {DType::kF32, DType::kF16, DType::kBF16, DType::kI64, DType::kI8}) {
    if (name != DTypeName(known)) continue;
    dtype = known;
    return true;
  }
  return false;
}

// Follows the one structure that the format has, event by event, so that no tree is ever built:
// {NAME: {"dtype": STRING, "shape": [INT...], "data_offsets": [INT, INT]}, "__metadata__": ...}
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  absl::Status status() const { return absl::InvalidArgumentError(error_); }
  absl::btree_map<std::string, TensorInfo> TakeTensors() { return std::move(tensors_); }

  bool null() override { return Skip() || Unexpected("null"); }
  bool boolean(bool) override { return Skip() || Unexpected("true or false"); }
  bool number_float(double, const std::string& text) override { return Skip() || Unexpected(text); }
  bool binary(binary_t&) override { return Skip() || Unexpected("binary"); }

  // Only numbers with a minus sign arrive here.
  bool number_integer(int64_t value) override {
    return Skip() || Unexpected(absl::StrCat(value == 0 ? "-" : "", value));
  }

  bool number_unsigned(uint64_t value) override {
    if (place_ == Place::kShape) return Dimension(value);
    if (place_ == Place::kOffsets) return Offset(value);
    return Skip() || Unexpected(absl::StrCat(value));
  }

  bool string(std::string& value) override {
    if (place_ != Place::kDTypeValue) return Skip() || Unexpected(Quoted(value));
    if (FindDType(value, info_.dtype)) return Enter(Place::kTensor);
    return TensorFail(
        absl::StrCat("dtype ", Quoted(value), " is not supported; F32, F16, BF16, I64 and I8 are"));
  }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) return Enter(Place::kTop);
    if (place_ != Place::kTensorValue) return SkipOpen() || Unexpected("an object");
    info_ = TensorInfo();
    seen_fields_ = 0;
    offsets_ = 0;
    return Enter(Place::kTensor);
  }

  bool end_object() override {
    if (SkipClose()) return true;
    if (place_ == Place::kTop) return Enter(Place::kStart);
    for (const Field& field : kFields) {
      if ((seen_fields_ & field.bit) == 0) {
        return TensorFail(absl::StrCat("\"", field.name, "\" is missing"));
      }
    }
    tensors_.emplace(name_, std::move(info_));
    return Enter(Place::kTop);
  }

  bool start_array(size_t) override {
    if (place_ == Place::kShapeValue) return Enter(Place::kShape);
    if (place_ == Place::kOffsetsValue) return Enter(Place::kOffsets);
    return SkipOpen() || Unexpected("an array");
  }

  bool end_array() override {
    if (SkipClose()) return true;
    if (place_ == Place::kOffsets && offsets_ != 2) {
      return TensorFail("\"data_offsets\" must be two numbers");
    }
    return Enter(Place::kTensor);
  }

  bool key(std::string& key) override {
    if (place_ == Place::kSkipped) return true;
    return place_ == Place::kTop ? TopKey(key) : TensorKey(key);
  }

  bool parse_error(size_t, const std::string&, const json::exception& error) override {
    return Fail(absl::StrCat("the header is not valid JSON: ", JsonErrorText(error)));
  }

 private:
  // What the reader stands in, or (...Value) what must come next.
  enum class Place {
    kStart,
    kTop,
    kTensorValue,
    kTensor,
    kDTypeValue,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kSkipped,
  };

  struct Field {
    absl::string_view name;
    int bit;
    Place value;
  };
  static constexpr Field kFields[] = {{"dtype", 1, Place::kDTypeValue},
                                      {"shape", 2, Place::kShapeValue},
                                      {"data_offsets", 4, Place::kOffsetsValue}};

  bool Enter(Place place) {
    place_ = place;
    return true;
  }

  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  bool TensorFail(absl::string_view error) {
    return Fail(absl::StrCat("tensor ", Quoted(name_), ": ", error));
  }

  bool Unexpected(absl::string_view what) {
    if (!error_.empty()) return false;
    switch (place_) {
      case Place::kDTypeValue:
        return TensorFail(absl::StrCat("\"dtype\" must be a string, not ", what));
      case Place::kShapeValue:
      case Place::kShape:
        return TensorFail(
            absl::StrCat("\"shape\" must be an array of whole numbers >= 0, not ", what));
      case Place::kOffsetsValue:
      case Place::kOffsets:
        return TensorFail(
            absl::StrCat("\"data_offsets\" must be two whole numbers >= 0, not ", what));
      case Place::kTensorValue:
        return TensorFail(absl::StrCat("must be described by an object, not ", what));
      default:
        return Fail(absl::StrCat("the header must be a JSON object, not ", what));
    }
  }

  // The value that follows means nothing here; afterwards the reader stands in `resume`.
  bool StartSkipping(Place resume) {
    resume_ = resume;
    skipped_depth_ = 0;
    return Enter(Place::kSkipped);
  }

  // The three tell whether the event belonged to a value that is passed over.
  bool Skip() {
    if (place_ != Place::kSkipped) return false;
    return skipped_depth_ > 0 || Enter(resume_);
  }

  bool SkipOpen() {
    if (place_ != Place::kSkipped) return false;
    if (++skipped_depth_ <= kMaxSkippedDepth) return true;
    return Fail(absl::StrCat("the header is nested deeper than ", kMaxSkippedDepth, " levels"));
  }

  bool SkipClose() {
    if (place_ != Place::kSkipped) return false;
    return --skipped_depth_ > 0 || Enter(resume_);
  }

  bool TopKey(const std::string& key) {
    name_ = key;
    if (key == "__metadata__") {
      if (metadata_seen_) return Fail("\"__metadata__\" is given twice");
      metadata_seen_ = true;
      return StartSkipping(Place::kTop);
    }
    return tensors_.contains(key) ? TensorFail("declared twice") : Enter(Place::kTensorValue);
  }

  bool TensorKey(const std::string& key) {
    for (const Field& field : kFields) {
      if (key != field.name) continue;
      if ((seen_fields_ & field.bit) != 0) {
        return TensorFail(absl::StrCat(Quoted(key), " is given twice"));
      }
      seen_fields_ |= field.bit;
      return Enter(field.value);
    }
    return StartSkipping(Place::kTensor);
  }

  bool Dimension(uint64_t value) {
    if (value > uint64_t{std::numeric_limits<int64_t>::max()}) {
      return TensorFail(absl::StrCat("dimension ", value, " is too large"));
    }
    if (info_.shape.size() == kMaxDimensions) {
      return TensorFail(absl::StrCat("more than ", kMaxDimensions, " dimensions"));
    }
    info_.shape.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool Offset(uint64_t value) {
    (offsets_++ == 0 ? info_.begin : info_.end) = value;
    return true;
  }

  Place place_ = Place::kStart;
  Place resume_ = Place::kStart;  // where to go on after what is skipped
  int skipped_depth_ = 0;
  bool metadata_seen_ = false;
  std::string name_;     // of the tensor that is being read
  TensorInfo info_;      // likewise
  int seen_fields_ = 0;  // likewise, bits of kFields
  int offsets_ = 0;      // likewise, how many were read
  absl::btree_map<std::string, TensorInfo> tensors_;
  std::string error_;
};

}  // namespace

absl::StatusOr<absl::btree_map<std::string, TensorInfo>> ParseSafeTensorsHeader(
    absl::string_view header) {
  if (header.empty() || header.front() != '{') {
    return absl::InvalidArgumentError("the header does not begin with '{'");
  }
  if (absl::StrContains(header, '\0')) {  // the parser would stop there and call it the end
    return absl::InvalidArgumentError("the header is not valid JSON: it holds a NUL byte");
  }
  try {
    HeaderReader reader;
    if (!json::sax_parse(header, &reader)) return reader.status();
    return reader.TakeTensors();
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read the header: ", error.what()));
  }
}

}  // namespace dla
