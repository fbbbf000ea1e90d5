// NVIDIA's run-time compiler, which needs no card and no toolkit: libnvrtc.so.13, loaded at run
// time.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace dla::cuda {

// Machine code for one kind of card, or text that the driver compiles for any newer one. Either
// goes to cudaLibraryLoadData.
struct KernelImage {
  std::string bytes;  // of PTX: with the 0 that ends it
  bool is_ptx = false;
};

// Cheap to copy. Thread-safe. The library stays loaded until the process ends.
class Nvrtc {
 public:
  // Looks where the loader does, then in `folders`. NOT_FOUND says where it was looked for.
  static absl::StatusOr<Nvrtc> Load(absl::Span<const std::string> folders);

  // Compiles for cards of compute capability major.minor (9, 0): to machine code where the compiler
  // knows it, to PTX of the newest one it knows where the card is newer. No fused multiply-add.
  // `name` is what messages call the source. UNIMPLEMENTED: a card too old for this compiler.
  // INTERNAL: the compiler's log.
  absl::StatusOr<KernelImage> Compile(const std::string& source, const std::string& name, int major,
                                      int minor) const;

 private:
  struct Functions;
  explicit Nvrtc(std::shared_ptr<const Functions> functions) : functions_(std::move(functions)) {}
  std::shared_ptr<const Functions> functions_;
};

}  // namespace dla::cuda
