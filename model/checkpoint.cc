#include "model/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "model/quantization.h"
#include "model/quoted.h"

namespace dla {
namespace {

constexpr size_t kNamed = 5;
constexpr absl::string_view kMean = ".running_mean";
constexpr absl::string_view kVariance = ".running_var";

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// Whether any element matches; they need not be aligned.
template <typename Bits, typename Predicate>
bool Any(absl::Span<const uint8_t> bytes, Predicate matches) {
  bool found = false;
  for (size_t i = 0; i < bytes.size(); i += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + i, sizeof(bits));
    found |= matches(bits);
  }
  return found;
}

// The exponent of infinities and NaNs has all bits set.
template <typename Bits>
bool AllFinite(absl::Span<const uint8_t> bytes, Bits exponent) {
  return !Any<Bits>(bytes, [exponent](Bits bits) { return (bits & exponent) == exponent; });
}

bool AllFinite(const TensorView& tensor) {
  switch (tensor.dtype) {
    case DType::kF32:
      return AllFinite<uint32_t>(tensor.bytes, 0x7f800000);
    case DType::kF16:
      return AllFinite<uint16_t>(tensor.bytes, 0x7c00);
    case DType::kBF16:
      return AllFinite<uint16_t>(tensor.bytes, 0x7f80);
    case DType::kI64:
    case DType::kI8:
      return true;
  }
  return true;
}

// Negative and not -0: the sign bit with any other.
bool AnyNegative(const TensorView& tensor) {
  if (tensor.dtype == DType::kF32) {
    return Any<uint32_t>(tensor.bytes, [](uint32_t bits) { return bits > 0x80000000; });
  }
  return Any<uint16_t>(tensor.bytes, [](uint16_t bits) { return bits > 0x8000; });
}

bool HasDType(DType dtype, TensorSpec::Values values) {
  switch (values) {
    case TensorSpec::Values::kFloat:
      return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
    case TensorSpec::Values::kPositive:
      return dtype == DType::kF32;
    case TensorSpec::Values::kInt8:
      return dtype == DType::kI8;
  }
  return false;
}

absl::string_view DTypeNames(TensorSpec::Values values) {
  if (values == TensorSpec::Values::kInt8) return "I8";
  return values == TensorSpec::Values::kPositive ? "F32" : "F32, F16 or BF16";
}

float FloatOfBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float FloatOfHalf(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 0x1f;
  const uint32_t fraction = bits & 0x3ff;
  if (exponent == 0x1f) return FloatOfBits(sign | 0x7f800000 | fraction << 13);
  if (exponent != 0) return FloatOfBits(sign | (exponent + 112) << 23 | fraction << 13);
  const float small = static_cast<float>(fraction) * 0x1p-24F;
  return sign != 0 ? -small : small;
}

// So that no product or quotient of two of them leaves float32. Not NaN either.
bool AllPositive(const TensorView& tensor) {
  return !Any<uint32_t>(tensor.bytes, [](uint32_t bits) {
    const float value = FloatOfBits(bits);
    return !(value >= kLeastScale && value <= kMostScale);
  });
}

template <typename Bits, typename Convert>
std::vector<float> Converted(absl::Span<const uint8_t> bytes, Convert convert) {
  std::vector<float> values(bytes.size() / sizeof(Bits));
  for (size_t i = 0; i < values.size(); ++i) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + i * sizeof(bits), sizeof(bits));
    values[i] = convert(bits);
  }
  return values;
}

}  // namespace

absl::Status CheckTensors(absl::Span<const TensorSpec> tensors, absl::string_view what,
                          const SafeTensors& checkpoint, absl::string_view name) {
  std::vector<std::string> problems;
  absl::btree_set<std::string> known;
  for (const TensorSpec& expected : tensors) {
    const TensorView* tensor = checkpoint.Find(expected.name);
    if (tensor == nullptr) {
      problems.push_back(absl::StrCat("\"", expected.name, "\" is missing"));
    } else if (tensor->shape != expected.shape) {
      problems.push_back(absl::StrCat("\"", expected.name, "\" is ", ShapeText(tensor->shape),
                                      " and should be ", ShapeText(expected.shape)));
    } else if (!HasDType(tensor->dtype, expected.values)) {
      problems.push_back(absl::StrCat("\"", expected.name, "\" is ", DTypeName(tensor->dtype),
                                      " and should be ", DTypeNames(expected.values)));
    }
    if (absl::EndsWith(expected.name, kMean)) {
      known.insert(absl::StrCat(absl::StripSuffix(expected.name, kMean), ".num_batches_tracked"));
    }
    known.insert(expected.name);
  }
  for (const auto& [tensor_name, tensor] : checkpoint.tensors()) {
    if (!known.contains(tensor_name)) {
      problems.push_back(absl::StrCat(Quoted(tensor_name), " is left over"));
    }
  }
  if (problems.empty()) return absl::OkStatus();

  const size_t named = std::min(problems.size(), kNamed);
  std::string text = absl::StrJoin(problems.begin(), problems.begin() + named, "; ");
  if (problems.size() > named) absl::StrAppend(&text, "; and ", problems.size() - named, " more");
  return absl::InvalidArgumentError(absl::StrCat(name, " does not hold the tensors of ", what,
                                                 ", as its config.json says: ", text));
}

absl::Status CheckTensors(const NetworkLayout& layout, const SafeTensors& checkpoint,
                          absl::string_view name) {
  return CheckTensors(
      ListTensors(layout),
      absl::StrCat("a ", layout.architecture, " with ", layout.num_classes, " classes"), checkpoint,
      name);
}

absl::Status CheckValues(absl::Span<const TensorSpec> tensors, const SafeTensors& checkpoint,
                         absl::string_view name) {
  for (const TensorSpec& expected : tensors) {
    const TensorView& tensor = *checkpoint.Find(expected.name);
    auto wrong = [&](absl::string_view what) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": tensor \"", expected.name, "\" holds ", what));
    };
    constexpr absl::string_view kEdited = "; the file is damaged or was edited";
    if (expected.values == TensorSpec::Values::kInt8) {
      if (Any<int8_t>(tensor.bytes, [](int8_t value) { return value == -128; })) {
        return wrong(absl::StrCat("-128, where -127 is the least", kEdited));
      }
    } else if (expected.values == TensorSpec::Values::kPositive) {
      if (!AllPositive(tensor)) {
        return wrong(absl::StrCat("a value that is not a number from ", kLeastScale, " to ",
                                  kMostScale, kEdited));
      }
    } else if (!AllFinite(tensor)) {
      return wrong("an infinity or NaN; was the training stable?");
    } else if (absl::EndsWith(expected.name, kVariance) && AnyNegative(tensor)) {
      return wrong(absl::StrCat("a negative variance", kEdited));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckValues(const NetworkLayout& layout, const SafeTensors& checkpoint,
                         absl::string_view name) {
  return CheckValues(ListTensors(layout), checkpoint, name);
}

std::vector<float> ToFloats(const TensorView& tensor) {
  if (tensor.dtype == DType::kF16) return Converted<uint16_t>(tensor.bytes, FloatOfHalf);
  if (tensor.dtype == DType::kBF16) {
    return Converted<uint16_t>(tensor.bytes,
                               [](uint16_t bits) { return FloatOfBits(uint32_t{bits} << 16); });
  }
  return Converted<uint32_t>(tensor.bytes, FloatOfBits);
}

}  // namespace dla
