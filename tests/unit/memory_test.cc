#include "model/memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <thread>

namespace dla {
namespace {

constexpr size_t kBlock = 48 << 20;

// Page faults of allocating, writing and freeing a few blocks of an activation's size.
long FaultsOfOnePass() {
  rusage before;
  rusage after;
  getrusage(RUSAGE_THREAD, &before);
  void* blocks[3];
  for (void*& block : blocks) {
    block = std::malloc(kBlock);
    for (size_t i = 0; i < kBlock; i += 4096) static_cast<volatile char*>(block)[i] = 1;
  }
  for (void* block : blocks) std::free(block);
  getrusage(RUSAGE_THREAD, &after);
  return after.ru_minflt - before.ru_minflt;
}

TEST(MemoryTest, KeepsWhatAThreadFreesForItsNextAllocation) {
  KeepFreedMemory();
  std::thread([] {
    FaultsOfOnePass();
    EXPECT_LT(FaultsOfOnePass(), 100);  // without: 36,864, one for each page
  }).join();
}

}  // namespace
}  // namespace dla
