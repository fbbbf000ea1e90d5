#include "model/gpu/plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dla::gpu {
namespace {

constexpr char kLibrary[] = "libdla_cuda.so";

absl::StatusOr<Runtime*> Find() {
  std::error_code error;
  const std::filesystem::path folder =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const std::filesystem::path& place : {folder, folder / "../lib/dla-serve"}) {
    const std::filesystem::path path = place / kLibrary;
    if (std::filesystem::exists(path, error)) return LoadRuntime(path.lexically_normal());
  }
  return absl::FailedPreconditionError(
      absl::StrCat("no ", kLibrary, " in ", folder.string(), " or ../lib/dla-serve"));
}

}  // namespace

absl::StatusOr<Runtime*> FindRuntime() {
  static const auto* const found = new absl::StatusOr<Runtime*>(Find());
  return *found;
}

absl::StatusOr<Runtime*> LoadRuntime(const std::string& path) {
  // Its names stay its own: both halves contain some of the same code.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the CUDA libraries cannot be loaded: ", dlerror(),
        "; script/bootstrap --cuda installs them, and the image's target cuda has them"));
  }
  const auto entry = reinterpret_cast<EntryFunction>(dlsym(library, kEntryName));
  if (entry == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is no CUDA half of this program"));
  }
  absl::Status why;
  Runtime* const runtime = entry(DLA_VERSION, &why);
  if (runtime == nullptr) return why;
  return runtime;
}

}  // namespace dla::gpu
