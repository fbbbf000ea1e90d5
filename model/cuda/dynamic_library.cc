#include "model/cuda/dynamic_library.h"

#include <dlfcn.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dla::cuda {

absl::StatusOr<DynamicLibrary> DynamicLibrary::Open(const std::string& name,
                                                    absl::Span<const std::string> folders,
                                                    absl::string_view remedy) {
  std::vector<std::string> paths = {name};
  for (const std::string& folder : folders) paths.push_back(absl::StrCat(folder, "/", name));
  for (const std::string& path : paths) {
    void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return DynamicLibrary(name, handle);
  }
  return absl::NotFoundError(
      absl::StrCat("no ", name, " (", absl::StrJoin(paths, ", "), "); ", remedy));
}

void* DynamicLibrary::FindSymbol(const char* name) {
  void* const symbol = dlsym(handle_, name);
  if (symbol == nullptr) status_ = absl::NotFoundError(absl::StrCat(name_, " has no ", name));
  return symbol;
}

}  // namespace dla::cuda
