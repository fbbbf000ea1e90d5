#include "model/cuda/device_status.h"

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dla::cuda {
namespace {

// Those that CUDA's documentation of cudaError says leave the process unable to use the device.
bool LosesDevice(cudaError_t error) {
  switch (error) {
    case cudaErrorAssert:
    case cudaErrorContained:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDeviceUninitialized:
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorExternalDevice:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorMisalignedAddress:
    case cudaErrorMpsRpcFailure:
    case cudaErrorNoDevice:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorSystemNotReady:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

absl::string_view FirstLine(absl::string_view text) { return *absl::StrSplit(text, '\n').begin(); }

}  // namespace

absl::Status DeviceStatus(cudaError_t error, absl::string_view doing) {
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();
  const std::string message =
      absl::StrCat(doing, ": ", cudaGetErrorName(error), " (", cudaGetErrorString(error), ")");
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(message);
  if (LosesDevice(error)) {
    return absl::UnavailableError(
        absl::StrCat("the device is lost until the server is started again: ", message));
  }
  return absl::InternalError(message);
}

absl::Status Guarded(absl::string_view doing, cudaStream_t stream,
                     absl::FunctionRef<absl::Status()> work) {
  std::string text;
  bool memory = false;
  try {
    return work();
  } catch (const c10::OutOfMemoryError& error) {
    text = error.what_without_backtrace();
    memory = true;
  } catch (const c10::Error& error) {
    text = error.what_without_backtrace();
  } catch (const std::bad_alloc&) {
    text = "out of memory";
    memory = true;
  } catch (const std::exception& error) {
    text = error.what();
  }
  (void)cudaGetLastError();
  absl::Status device = DeviceStatus(cudaStreamQuery(stream), doing);
  if (absl::IsUnavailable(device)) return device;
  const std::string message = absl::StrCat(doing, ": ", FirstLine(text));
  return memory ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

}  // namespace dla::cuda
