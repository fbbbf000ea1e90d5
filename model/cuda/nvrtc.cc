#include "model/cuda/nvrtc.h"

#include <dlfcn.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "model/cuda/dynamic_library.h"
#include "model/status_macros.h"

namespace dla::cuda {
namespace {

struct OpaqueProgram;
using Program = OpaqueProgram*;
constexpr int kSuccess = 0;

// NVRTC opens what it needs besides by name alone, and the wheel's has no RPATH: where there is no
// toolkit, it is found only if it is there already. cuDNN's use of NVRTC needs the same.
void LoadBuiltins(void* symbol_of_nvrtc, int major, int minor) {
  Dl_info nvrtc;
  if (dladdr(symbol_of_nvrtc, &nvrtc) == 0) return;
  std::string path = nvrtc.dli_fname;
  path.resize(path.rfind('/') + 1);
  absl::StrAppend(&path, "libnvrtc-builtins.so.", major, ".", minor);
  dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // else by NVRTC, whose message is a good one
}

}  // namespace

// As nvrtc.h of CUDA 13 declares them; a result is an enumeration of int.
struct Nvrtc::Functions {
  int (*version)(int* major, int* minor);
  int (*create)(Program*, const char* source, const char* name, int headers,
                const char* const* header_sources, const char* const* header_names);
  int (*destroy)(Program*);
  int (*compile)(Program, int options, const char* const* option);
  int (*log_size)(Program, size_t*);
  int (*log)(Program, char*);
  int (*cubin_size)(Program, size_t*);
  int (*cubin)(Program, char*);
  int (*ptx_size)(Program, size_t*);
  int (*ptx)(Program, char*);
  int (*arch_count)(int*);
  int (*archs)(int*);  // ascending, such as 75, 80, 90
  const char* (*error)(int);
};

absl::StatusOr<Nvrtc> Nvrtc::Load(absl::Span<const std::string> folders) {
  DLA_ASSIGN_OR_RETURN(DynamicLibrary library,
                       DynamicLibrary::Open("libnvrtc.so.13", folders,
                                            "install PyPI's nvidia-cuda-nvrtc or CUDA 13's NVRTC"));
  auto functions = std::make_shared<Functions>();
  library.Find("nvrtcVersion", functions->version);
  library.Find("nvrtcCreateProgram", functions->create);
  library.Find("nvrtcDestroyProgram", functions->destroy);
  library.Find("nvrtcCompileProgram", functions->compile);
  library.Find("nvrtcGetProgramLogSize", functions->log_size);
  library.Find("nvrtcGetProgramLog", functions->log);
  library.Find("nvrtcGetCUBINSize", functions->cubin_size);
  library.Find("nvrtcGetCUBIN", functions->cubin);
  library.Find("nvrtcGetPTXSize", functions->ptx_size);
  library.Find("nvrtcGetPTX", functions->ptx);
  library.Find("nvrtcGetNumSupportedArchs", functions->arch_count);
  library.Find("nvrtcGetSupportedArchs", functions->archs);
  library.Find("nvrtcGetErrorString", functions->error);
  DLA_RETURN_IF_ERROR(library.status());
  int major = 0, minor = 0;
  if (functions->version(&major, &minor) == kSuccess) {
    LoadBuiltins(reinterpret_cast<void*>(functions->version), major, minor);
  }
  return Nvrtc(std::move(functions));
}

absl::StatusOr<KernelImage> Nvrtc::Compile(const std::string& source, const std::string& name,
                                           int major, int minor) const {
  const Functions& nvrtc = *functions_;
  const auto check = [&](int result, absl::string_view what) {
    if (result == kSuccess) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("NVRTC, ", what, ": ", nvrtc.error(result)));
  };
  int count = 0;
  DLA_RETURN_IF_ERROR(check(nvrtc.arch_count(&count), "asking for the cards that it knows"));
  std::vector<int> archs(std::max(count, 1));
  DLA_RETURN_IF_ERROR(check(nvrtc.archs(archs.data()), "asking for the cards that it knows"));
  const int wanted = major * 10 + minor;
  const bool known = std::find(archs.begin(), archs.end(), wanted) != archs.end();
  // The newest that code for the card can come from.
  int arch = 0;
  for (const int candidate : archs) {
    if (candidate <= wanted) arch = std::max(arch, candidate);
  }
  if (arch == 0) {
    return absl::UnimplementedError(absl::StrCat(
        "a card of compute capability ", major, ".", minor, "; this version of CUDA compiles for ",
        archs.front() / 10, ".", archs.front() % 10, " and newer"));
  }

  Program program = nullptr;
  DLA_RETURN_IF_ERROR(
      check(nvrtc.create(&program, source.c_str(), name.c_str(), 0, nullptr, nullptr), name));
  const auto destroy = [&](Program* p) { nvrtc.destroy(p); };
  const std::unique_ptr<Program, decltype(destroy)> owner(&program, destroy);

  const std::string architecture =
      absl::StrCat("--gpu-architecture=", known ? "sm_" : "compute_", arch);
  const char* const options[] = {architecture.c_str(), "--std=c++17", "--fmad=false"};
  const int result = nvrtc.compile(program, std::size(options), options);
  if (result != kSuccess) {
    size_t size = 0;
    std::string log;
    if (nvrtc.log_size(program, &size) == kSuccess && size > 0) {
      log.resize(size);
      if (nvrtc.log(program, log.data()) != kSuccess) log.clear();
      while (!log.empty() && (log.back() == '\0' || log.back() == '\n')) log.pop_back();
    }
    return absl::InternalError(
        absl::StrCat("NVRTC, ", name, " for ", architecture, ": ", nvrtc.error(result), "\n", log));
  }

  KernelImage image{.bytes = {}, .is_ptx = !known};
  size_t size = 0;
  DLA_RETURN_IF_ERROR(check((known ? nvrtc.cubin_size : nvrtc.ptx_size)(program, &size), name));
  image.bytes.resize(size);
  DLA_RETURN_IF_ERROR(check((known ? nvrtc.cubin : nvrtc.ptx)(program, image.bytes.data()), name));
  return image;
}

}  // namespace dla::cuda
