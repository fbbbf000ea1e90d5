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

}  // namespace

absl::Status CheckTensors(const NetworkLayout& layout, const SafeTensors& checkpoint,
                          absl::string_view name) {
  std::vector<std::string> problems;
  absl::btree_set<std::string> known;
  for (const TensorSpec& expected : ListTensors(layout)) {
    const TensorView* tensor = checkpoint.Find(expected.name);
    if (tensor == nullptr) {
      problems.push_back(absl::StrCat("\"", expected.name, "\" is missing"));
    } else if (tensor->shape != expected.shape) {
      problems.push_back(absl::StrCat("\"", expected.name, "\" is ", ShapeText(tensor->shape),
                                      " and should be ", ShapeText(expected.shape)));
    } else if (tensor->dtype == DType::kI64) {
      problems.push_back(
          absl::StrCat("\"", expected.name, "\" is I64 and should be F32, F16 or BF16"));
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
  return absl::InvalidArgumentError(absl::StrCat(name, " does not hold the tensors of a ",
                                                 layout.architecture, " with ", layout.num_classes,
                                                 " classes, as its config.json says: ", text));
}

absl::Status CheckValues(const NetworkLayout& layout, const SafeTensors& checkpoint,
                         absl::string_view name) {
  for (const TensorSpec& expected : ListTensors(layout)) {
    const TensorView& tensor = *checkpoint.Find(expected.name);
    if (!AllFinite(tensor)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": tensor \"", expected.name,
                                                     "\" holds an infinity or NaN; was the "
                                                     "training stable?"));
    }
    if (absl::EndsWith(expected.name, kVariance) && AnyNegative(tensor)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": tensor \"", expected.name,
                                                     "\" holds a negative variance; the file is "
                                                     "damaged or was edited"));
    }
  }
  return absl::OkStatus();
}

}  // namespace dla
