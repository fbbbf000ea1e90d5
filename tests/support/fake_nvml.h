// A libnvidia-ml.so for tests, and what they decide about it. It is opened as the real one is; the
// tests reach it through `dlsym(dlopen(path), "FakeNvmlState")`, a function of type GetFakeNvml.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>

#include "server/mutex.h"

namespace dla::server {

struct FakeGpu {
  unsigned long long used = 0, total = 0, reserved = 0;
  unsigned int utilization_percent = 0, celsius = 0, milliwatts = 0;
  unsigned long long volatile_uncorrected = 0;
  int fails_with = 0;      // all calls return this nvmlReturn_t; 0: they work
  int ecc_fails_with = 0;  // those that ask for errors of memory
  int searches = 0;        // for it
  bool watched = false;
};

struct FakeNvml {
  Mutex mu;
  CondVar changed;
  int init_fails_with ABSL_GUARDED_BY(mu) = 0;
  int users ABSL_GUARDED_BY(mu) = 0;  // inits less shutdowns
  // By PCI bus id. Entries stay where they are, for they are the handles.
  std::map<std::string, FakeGpu> gpus ABSL_GUARDED_BY(mu);
  std::deque<std::pair<std::string, unsigned long long>> xids ABSL_GUARDED_BY(mu);
  bool hangs ABSL_GUARDED_BY(mu) = false;  // calls wait until it is false again
  int calls_that_hang ABSL_GUARDED_BY(mu) = 0;
};

using GetFakeNvml = FakeNvml*();

}  // namespace dla::server
