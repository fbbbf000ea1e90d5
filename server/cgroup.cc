#include "server/cgroup.h"

#include <algorithm>
#include <fstream>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace dla::server {
namespace {

// Where a hierarchy of control groups is mounted, from a line of /proc/self/mountinfo.
struct Mount {
  std::string root;   // the group that shows at the mount point
  std::string point;  // absolute
};

// Of v2, or of the hierarchy of v1 that has the controller.
std::optional<Mount> FindMount(const std::vector<std::string>& mountinfo, bool v2,
                               absl::string_view controller) {
  for (const std::string& line : mountinfo) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> before = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> after = absl::StrSplit(halves[1], ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    if (after[0] != (v2 ? "cgroup2" : "cgroup")) continue;
    const std::vector<absl::string_view> options = absl::StrSplit(after[2], ',');
    if (!v2 && !absl::c_linear_search(options, controller)) continue;
    return Mount{std::string(before[3]), std::string(before[4])};
  }
  return std::nullopt;
}

// The group's path in the hierarchy, from /proc/self/cgroup: "0::/a/b" for v2, and
// "4:cpu,cpuacct:/a/b" for v1.
std::optional<std::string> FindGroup(const std::vector<std::string>& cgroup, bool v2,
                                     absl::string_view controller) {
  for (const std::string& line : cgroup) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(fields[1], ',');
    const bool mine =
        v2 ? fields[0] == "0" && fields[1].empty() : absl::c_linear_search(controllers, controller);
    if (mine) return std::string(fields[2]);
  }
  return std::nullopt;
}

// From the group up to the mount point.
std::optional<double> TightestLimit(const std::string& root, const Mount& mount,
                                    absl::string_view group, const ReadGroupLimit& limit_of) {
  // In a container the mount may show a part of the hierarchy only, named from its top.
  if (mount.root != "/" && absl::StartsWith(group, mount.root)) {
    group.remove_prefix(mount.root.size());
  }
  std::optional<double> tightest;
  for (absl::string_view path = absl::StripSuffix(group, "/");;
       path = path.substr(0, path.rfind('/'))) {
    const std::optional<double> limit = limit_of(absl::StrCat(root, mount.point, path));
    if (limit.has_value()) tightest = std::min(tightest.value_or(*limit), *limit);
    if (path.empty() || path.rfind('/') == absl::string_view::npos) return tightest;
  }
}

}  // namespace

std::optional<double> TightestCgroupLimit(absl::string_view controller,
                                          const GroupLimitReaders& readers,
                                          const std::string& root) {
  const std::vector<std::string> mountinfo = ReadLines(root + "/proc/self/mountinfo");
  const std::vector<std::string> cgroup = ReadLines(root + "/proc/self/cgroup");
  std::optional<double> tightest;
  for (const bool v2 : {true, false}) {
    const std::optional<Mount> mount = FindMount(mountinfo, v2, controller);
    const std::optional<std::string> group = FindGroup(cgroup, v2, controller);
    if (!mount.has_value() || !group.has_value()) continue;
    const std::optional<double> limit =
        TightestLimit(root, *mount, *group, v2 ? readers.v2 : readers.v1);
    if (limit.has_value()) tightest = std::min(tightest.value_or(*limit), *limit);
  }
  return tightest;
}

std::vector<std::string> ReadLines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string ReadFirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace dla::server
