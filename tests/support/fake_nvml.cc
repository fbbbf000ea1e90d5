#include "tests/support/fake_nvml.h"

#include <cstring>

using dla::server::FakeGpu;
using dla::server::FakeNvml;
using dla::server::MutexLock;

namespace {

FakeNvml& State() {
  static auto& state = *new FakeNvml;
  return state;
}

// What `read` returns, after whatever the test put in its way.
template <typename Read>
int Ask(void* gpu, Read read) {
  FakeNvml& state = State();
  MutexLock lock(state.mu);
  ++state.calls_that_hang;
  state.changed.NotifyAll();
  while (state.hangs) state.changed.Wait(state.mu);
  --state.calls_that_hang;
  state.changed.NotifyAll();
  for (auto& [id, fake] : state.gpus) {
    if (&fake == gpu) return fake.fails_with != 0 ? fake.fails_with : read(fake);
  }
  return 2;  // NVML_ERROR_INVALID_ARGUMENT
}

}  // namespace

// The prototypes of nvml.h, without its types.
extern "C" {

FakeNvml* FakeNvmlState() { return &State(); }

int nvmlInit_v2() {
  MutexLock lock(State().mu);
  if (State().init_fails_with == 0) ++State().users;
  return State().init_fails_with;
}

int nvmlShutdown() {
  MutexLock lock(State().mu);
  --State().users;
  State().changed.NotifyAll();
  return 0;
}

const char* nvmlErrorString(int code) {
  switch (code) {
    case 3:
      return "Not Supported";
    case 6:
      return "Not Found";
    case 9:
      return "Driver Not Loaded";
    case 13:
      return "Function Not Found";
    case 15:
      return "GPU is lost";
    default:
      return "Unknown Error";
  }
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** gpu) {
  MutexLock lock(State().mu);
  const auto found = State().gpus.find(id);
  if (found == State().gpus.end()) return 6;
  *gpu = &found->second;
  ++found->second.searches;
  return found->second.fails_with;
}

int nvmlDeviceGetMemoryInfo(void* gpu, unsigned long long* total_free_used) {
  return Ask(gpu, [&](const FakeGpu& fake) {
    total_free_used[0] = fake.total;
    total_free_used[1] = fake.total - fake.used - fake.reserved;
    total_free_used[2] = fake.used + fake.reserved;
    return 0;
  });
}

int nvmlDeviceGetUtilizationRates(void* gpu, unsigned int* gpu_memory) {
  return Ask(gpu, [&](const FakeGpu& fake) {
    gpu_memory[0] = fake.utilization_percent;
    gpu_memory[1] = 77;
    return 0;
  });
}

int nvmlDeviceGetTemperature(void* gpu, int sensor, unsigned int* celsius) {
  return Ask(gpu, [&](const FakeGpu& fake) {
    *celsius = fake.celsius;
    return sensor == 0 ? 0 : 2;
  });
}

int nvmlDeviceGetTotalEccErrors(void* gpu, int type, int counter, unsigned long long* count) {
  return Ask(gpu, [&](const FakeGpu& fake) {
    *count = type == 1 && counter == 0 ? fake.volatile_uncorrected : 99;
    return fake.ecc_fails_with;
  });
}

// An old driver has none of these.
#ifndef FAKE_NVML_IS_OLD
int nvmlDeviceGetMemoryInfo_v2(void* gpu, void* memory) {
  struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
  } v2;
  static_assert(sizeof(v2) == 40);
  std::memcpy(&v2, memory, sizeof(v2));
  if (v2.version != 0x2000028) return 25;  // NVML_ERROR_ARGUMENT_VERSION_MISMATCH
  return Ask(gpu, [&](const FakeGpu& fake) {
    v2.total = fake.total;
    v2.reserved = fake.reserved;
    v2.used = fake.used;
    v2.free = fake.total - fake.used - fake.reserved;
    std::memcpy(memory, &v2, sizeof(v2));
    return 0;
  });
}

int nvmlDeviceGetPowerUsage(void* gpu, unsigned int* milliwatts) {
  return Ask(gpu, [&](const FakeGpu& fake) {
    *milliwatts = fake.milliwatts;
    return 0;
  });
}

int nvmlEventSetCreate(void** set) {
  *set = &State();
  return 0;
}

int nvmlDeviceRegisterEvents(void* gpu, unsigned long long types, void* set) {
  return Ask(gpu, [&](FakeGpu& fake) {
    fake.watched = types == 8 && set == &State();
    return fake.watched ? 0 : 2;
  });
}

int nvmlEventSetWait_v2(void* set, void* event, unsigned int milliseconds) {
  if (set != &State() || milliseconds != 0) return 2;
  MutexLock lock(State().mu);
  if (State().xids.empty()) return 10;  // NVML_ERROR_TIMEOUT
  const auto [id, number] = State().xids.front();
  State().xids.pop_front();
  struct {
    void* gpu;
    unsigned long long type, data;
    unsigned int gpu_instance, compute_instance;
  } out = {&State().gpus.at(id), 8, number, 0xffffffff, 0xffffffff};
  std::memcpy(event, &out, sizeof(out));
  return 0;
}

int nvmlEventSetFree(void*) { return 0; }
#endif

}  // extern "C"
