// How much memory this process may take before the kernel ends it.
#pragma once

#include <string>

namespace dla::server {

// Bytes: the tightest limit of its control groups, v1 or v2 (`docker run --memory 2g`), or the
// machine's memory where that is less or there is no limit; 0 where neither can be read. `root`
// stands before /proc and the mount points, for tests.
double MemoryLimitBytes(const std::string& root = "");

}  // namespace dla::server
