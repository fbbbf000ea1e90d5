#include "server/nvml.h"

#include <dlfcn.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

// Of nvmlReturn_t.
constexpr int kSuccess = 0;
constexpr int kNotSupported = 3;
constexpr int kNotFound = 6;
constexpr int kFunctionNotFound = 13;
constexpr int kGpuIsLost = 15;
constexpr int kResetRequired = 16;

constexpr int kSensorOfTheGpu = 0;          // NVML_TEMPERATURE_GPU
constexpr int kUncorrected = 1;             // NVML_MEMORY_ERROR_TYPE_UNCORRECTED
constexpr int kSinceDriverWasLoaded = 0;    // NVML_VOLATILE_ECC
constexpr unsigned long long kXidType = 8;  // nvmlEventTypeXidCriticalError

struct MemoryV1 {  // nvmlMemory_t
  unsigned long long total, free, used;
};
struct MemoryV2 {  // nvmlMemory_v2_t
  unsigned int version;
  unsigned long long total, reserved, free, used;
};
constexpr unsigned int kMemoryV2 = sizeof(MemoryV2) | 2u << 24;
struct Utilization {  // nvmlUtilization_t: percent
  unsigned int gpu, memory;
};
struct EventData {  // nvmlEventData_t of nvmlEventSetWait_v2
  Nvml::Handle gpu;
  unsigned long long type, data;
  unsigned int gpu_instance, compute_instance;
};

}  // namespace

// Those that this driver lacks are null, but for the first four.
struct Nvml::Functions {
  int (*init)();
  int (*shutdown)();
  const char* (*error_string)(int);
  int (*find)(const char*, Handle*);
  int (*memory)(Handle, MemoryV1*);
  int (*memory_v2)(Handle, MemoryV2*);
  int (*utilization)(Handle, Utilization*);
  int (*temperature)(Handle, int, unsigned int*);
  int (*power)(Handle, unsigned int*);
  int (*ecc_errors)(Handle, int, int, unsigned long long*);
  int (*create_events)(void**);
  int (*register_events)(Handle, unsigned long long, void*);
  int (*next_event)(void*, EventData*, unsigned int);
  int (*free_events)(void*);
};

absl::StatusOr<std::unique_ptr<Nvml>> Nvml::Open(const std::string& library) {
  // Never closed: the driver's library keeps threads and handlers of its own.
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return absl::NotFoundError(absl::StrCat("NVML: ", dlerror()));
  auto functions = std::make_unique<Functions>();
  auto look_up = [handle](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
  };
  look_up(functions->init, "nvmlInit_v2");
  look_up(functions->shutdown, "nvmlShutdown");
  look_up(functions->error_string, "nvmlErrorString");
  look_up(functions->find, "nvmlDeviceGetHandleByPciBusId_v2");
  look_up(functions->memory, "nvmlDeviceGetMemoryInfo");
  look_up(functions->memory_v2, "nvmlDeviceGetMemoryInfo_v2");
  look_up(functions->utilization, "nvmlDeviceGetUtilizationRates");
  look_up(functions->temperature, "nvmlDeviceGetTemperature");
  look_up(functions->power, "nvmlDeviceGetPowerUsage");
  look_up(functions->ecc_errors, "nvmlDeviceGetTotalEccErrors");
  look_up(functions->create_events, "nvmlEventSetCreate");
  look_up(functions->register_events, "nvmlDeviceRegisterEvents");
  look_up(functions->next_event, "nvmlEventSetWait_v2");
  look_up(functions->free_events, "nvmlEventSetFree");
  if (functions->init == nullptr || functions->shutdown == nullptr ||
      functions->error_string == nullptr || functions->find == nullptr) {
    return absl::InternalError(
        absl::StrCat("NVML: ", library, " is none, or too old: a basic function is missing"));
  }
  std::unique_ptr<Nvml> nvml(new Nvml(std::move(functions)));
  const int code = nvml->functions_->init();
  if (code != kSuccess) {
    nvml->functions_->shutdown = nullptr;
    return nvml->ToStatus(code, "nvmlInit_v2");
  }
  return nvml;
}

Nvml::Nvml(std::unique_ptr<Functions> functions) : functions_(std::move(functions)) {}

Nvml::~Nvml() {
  if (events_ != nullptr && functions_->free_events != nullptr) functions_->free_events(events_);
  if (functions_->shutdown != nullptr) functions_->shutdown();
}

absl::Status Nvml::ToStatus(int code, const char* call) const {
  if (code == kSuccess) return absl::OkStatus();
  const std::string message = absl::StrCat(call, ": ", functions_->error_string(code));
  switch (code) {
    case kNotSupported:
    case kFunctionNotFound:
      return absl::UnimplementedError(message);
    case kNotFound:
      return absl::NotFoundError(message);
    case kGpuIsLost:
    case kResetRequired:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

// One that this driver lacks is null.
template <typename Function, typename... Arguments>
absl::Status Nvml::Call(const char* name, Function function, Arguments... arguments) const {
  return ToStatus(function == nullptr ? kFunctionNotFound : function(arguments...), name);
}

absl::StatusOr<Nvml::Handle> Nvml::Find(const std::string& pci_bus_id) {
  Handle gpu = nullptr;
  DLA_RETURN_IF_ERROR(
      Call("nvmlDeviceGetHandleByPciBusId_v2", functions_->find, pci_bus_id.c_str(), &gpu));
  return gpu;
}

// By version 2, as nvidia-smi does, where the driver has it.
absl::StatusOr<Nvml::Memory> Nvml::ReadMemory(Handle gpu) {
  if (functions_->memory_v2 != nullptr) {
    MemoryV2 memory = {.version = kMemoryV2};
    const int code = functions_->memory_v2(gpu, &memory);
    if (code == kSuccess) return Memory{.used = memory.used, .total = memory.total};
    if (code == kGpuIsLost) return ToStatus(code, "nvmlDeviceGetMemoryInfo_v2");
  }
  MemoryV1 memory = {};
  DLA_RETURN_IF_ERROR(Call("nvmlDeviceGetMemoryInfo", functions_->memory, gpu, &memory));
  return Memory{.used = memory.used, .total = memory.total};
}

absl::StatusOr<double> Nvml::UtilizationPercent(Handle gpu) {
  Utilization utilization = {};
  DLA_RETURN_IF_ERROR(
      Call("nvmlDeviceGetUtilizationRates", functions_->utilization, gpu, &utilization));
  return utilization.gpu;
}

absl::StatusOr<double> Nvml::TemperatureCelsius(Handle gpu) {
  unsigned int celsius = 0;
  DLA_RETURN_IF_ERROR(
      Call("nvmlDeviceGetTemperature", functions_->temperature, gpu, kSensorOfTheGpu, &celsius));
  return celsius;
}

absl::StatusOr<double> Nvml::PowerMilliwatts(Handle gpu) {
  unsigned int milliwatts = 0;
  DLA_RETURN_IF_ERROR(Call("nvmlDeviceGetPowerUsage", functions_->power, gpu, &milliwatts));
  return milliwatts;
}

absl::StatusOr<double> Nvml::UncorrectedEccErrors(Handle gpu) {
  unsigned long long errors = 0;
  DLA_RETURN_IF_ERROR(Call("nvmlDeviceGetTotalEccErrors", functions_->ecc_errors, gpu, kUncorrected,
                           kSinceDriverWasLoaded, &errors));
  return static_cast<double>(errors);
}

absl::Status Nvml::WatchXids(Handle gpu) {
  if (functions_->next_event == nullptr) {
    return ToStatus(kFunctionNotFound, "nvmlEventSetWait_v2");
  }
  if (events_ == nullptr)
    DLA_RETURN_IF_ERROR(Call("nvmlEventSetCreate", functions_->create_events, &events_));
  DLA_RETURN_IF_ERROR(
      Call("nvmlDeviceRegisterEvents", functions_->register_events, gpu, kXidType, events_));
  return absl::OkStatus();
}

std::optional<Nvml::Xid> Nvml::NextXid() {
  if (events_ == nullptr) return std::nullopt;
  EventData event = {};
  if (functions_->next_event(events_, &event, 0) != kSuccess) return std::nullopt;
  return Xid{.gpu = event.gpu, .number = event.data};
}

}  // namespace dla::server
