#include "model/threads.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace dla {

void UseThreads(int count) {
  // A thread's first parallel operation takes over the number that any thread set last. Asking for
  // the number has that happen now, so that what is set next stays.
  at::get_num_threads();
  at::set_num_threads(std::max(count, 1));
}

}  // namespace dla
