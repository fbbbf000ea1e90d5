// The control groups of Linux that this process is in, v1 and v2, and what they limit.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace dla::server {

// Of the group that shows as `folder`; nothing where it sets no limit.
using ReadGroupLimit = std::function<std::optional<double>(const std::string& folder)>;
struct GroupLimitReaders {
  ReadGroupLimit v2;
  ReadGroupLimit v1;
};

// The tightest of the limits that `controller` ("cpu", "memory") sets for this process: each
// group's holds for all below it. Nothing where there is none, or none that can be read. `root`
// stands before /proc and the mount points, for tests.
std::optional<double> TightestCgroupLimit(absl::string_view controller,
                                          const GroupLimitReaders& readers,
                                          const std::string& root = "");

// The lines of a small file, such as those of /proc; nothing of one that cannot be read.
std::vector<std::string> ReadLines(const std::string& path);
std::string ReadFirstLine(const std::string& path);

}  // namespace dla::server
