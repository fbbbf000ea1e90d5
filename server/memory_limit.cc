#include "server/memory_limit.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/cgroup.h"

namespace dla::server {
namespace {

// v2 writes "max" where there is no limit, v1 a number larger than any memory.
std::optional<double> Bytes(absl::string_view text) {
  double bytes = 0;
  if (!absl::SimpleAtod(text, &bytes) || !(bytes > 0)) return std::nullopt;
  return bytes;
}

std::optional<double> MachineBytes(const std::string& root) {
  const std::vector<std::string> fields =
      absl::StrSplit(ReadFirstLine(root + "/proc/meminfo"), ' ', absl::SkipEmpty());
  if (fields.size() != 3 || fields[0] != "MemTotal:" || fields[2] != "kB") return std::nullopt;
  const std::optional<double> kilobytes = Bytes(fields[1]);
  if (!kilobytes.has_value()) return std::nullopt;
  return *kilobytes * 1024;
}

}  // namespace

double MemoryLimitBytes(const std::string& root) {
  const std::optional<double> machine = MachineBytes(root);
  const std::optional<double> group = TightestCgroupLimit(
      "memory",
      {.v2 = [](const std::string& folder) { return Bytes(ReadFirstLine(folder + "/memory.max")); },
       .v1 =
           [](const std::string& folder) {
             return Bytes(ReadFirstLine(folder + "/memory.limit_in_bytes"));
           }},
      root);
  if (!group.has_value()) return machine.value_or(0);
  return std::min(*group, machine.value_or(*group));
}

}  // namespace dla::server
