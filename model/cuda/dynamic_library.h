// One of NVIDIA's libraries, opened at run time where it is installed.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace dla::cuda {

// Stays loaded until the process ends.
class DynamicLibrary {
 public:
  // Looks where the loader does, then in `folders`. NOT_FOUND says where it was looked for, and
  // `remedy` ("install PyPI's nvidia-nvjpeg").
  static absl::StatusOr<DynamicLibrary> Open(const std::string& name,
                                             absl::Span<const std::string> folders,
                                             absl::string_view remedy);

  // Sets the pointer; null where the library has no such function, which `status` then says.
  template <typename Function>
  void Find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(FindSymbol(name));
  }

  // NOT_FOUND names a function that was missing.
  const absl::Status& status() const { return status_; }

 private:
  DynamicLibrary(std::string name, void* handle) : name_(std::move(name)), handle_(handle) {}
  void* FindSymbol(const char* name);

  std::string name_;
  void* handle_;
  absl::Status status_;
};

}  // namespace dla::cuda
