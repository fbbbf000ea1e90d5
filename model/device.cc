#include "model/device.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "model/quoted.h"

namespace dla {

absl::StatusOr<DeviceChoice> ParseDevice(absl::string_view text) {
  using Kind = DeviceChoice::Kind;
  if (text == "auto") return DeviceChoice{Kind::kAuto};
  if (text == "cpu") return DeviceChoice{Kind::kCpu};
  if (text == "cuda") return DeviceChoice{Kind::kCuda};
  DeviceChoice choice{Kind::kCuda};
  absl::string_view list = text;
  bool valid = absl::ConsumePrefix(&list, "cuda:");
  for (absl::string_view item : absl::StrSplit(list, ',')) {
    int index = -1;
    valid = valid && !item.empty() && absl::ascii_isdigit(item.front()) &&
            absl::SimpleAtoi(item, &index) &&
            std::find(choice.indices.begin(), choice.indices.end(), index) == choice.indices.end();
    choice.indices.push_back(index);
  }
  if (valid) return choice;
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(text), " is not auto, cpu, cuda, cuda:N or cuda:N,M"));
}

std::string CudaDeviceName(const std::vector<int>& indices) {
  return absl::StrCat("cuda:", absl::StrJoin(indices, ","));
}

}  // namespace dla
