// Work in equal pieces on all cores.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace dla {

// Calls `work(i)` for each i in [0, count), on so many threads at most, each of which computes
// alone (see UseThreads), and returns when all is done. Rethrows the first exception, after which
// no further piece is begun.
void ParallelFor(int64_t count, int threads, absl::FunctionRef<void(int64_t i)> work);

}  // namespace dla
