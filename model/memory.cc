#include "model/memory.h"

#include <cstdlib>  // defines __GLIBC__

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace dla {

void KeepFreedMemory() {
#ifdef __GLIBC__
  constexpr int kNever = 2'000'000'000;  // bytes
  mallopt(M_MMAP_THRESHOLD, kNever);
  mallopt(M_TRIM_THRESHOLD, kNever);
  mallopt(M_ARENA_MAX, 1);
#endif
}

}  // namespace dla
