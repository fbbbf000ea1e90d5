#include "model/architecture.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dla {
namespace {

using enum Block;

constexpr std::array<int, 6> kWide = {16, 32, 128, 256, 512, 1024};
constexpr std::array<int, 6> kNarrow = {16, 32, 64, 128, 256, 512};
constexpr std::array<int, 6> kCompact = {16, 32, 64, 64, 128, 256};

// clang-format off
//   name              block         levels              channels  cardinality  base_width  root_shortcut
constexpr Architecture kArchitectures[] = {
    {"dla34",          kBasic,       {1, 1, 1, 2, 2, 1}, kNarrow,   1, 64, false},
    {"dla46_c",        kBottleneck,  {1, 1, 1, 2, 2, 1}, kCompact,  1, 64, false},
    {"dla46x_c",       kBottleneck,  {1, 1, 1, 2, 2, 1}, kCompact, 32,  4, false},
    {"dla60",          kBottleneck,  {1, 1, 1, 2, 3, 1}, kWide,     1, 64, false},
    {"dla60x",         kBottleneck,  {1, 1, 1, 2, 3, 1}, kWide,    32,  4, false},
    {"dla60x_c",       kBottleneck,  {1, 1, 1, 2, 3, 1}, kCompact, 32,  4, false},
    {"dla60_res2net",  kBottle2neck, {1, 1, 1, 2, 3, 1}, kWide,     1, 28, false},
    {"dla60_res2next", kBottle2neck, {1, 1, 1, 2, 3, 1}, kWide,     8,  4, false},
    {"dla102",         kBottleneck,  {1, 1, 1, 3, 4, 1}, kWide,     1, 64, true},
    {"dla102x",        kBottleneck,  {1, 1, 1, 3, 4, 1}, kWide,    32,  4, true},
    {"dla102x2",       kBottleneck,  {1, 1, 1, 3, 4, 1}, kWide,    64,  4, true},
    {"dla169",         kBottleneck,  {1, 1, 2, 3, 5, 1}, kWide,     1, 64, true},
};
// clang-format on

// The first level halves rounding up; the other four must divide evenly.
bool Fits(int size) { return size >= 31 && (size + 1) / 2 % 16 == 0; }

}  // namespace

absl::Span<const Architecture> AllArchitectures() { return kArchitectures; }

absl::StatusOr<const Architecture*> FindArchitecture(absl::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return absl::NotFoundError(
      absl::StrCat("unknown architecture \"", name, "\"; known are ",
                   absl::StrJoin(kArchitectures, ", ", [](std::string* out, const Architecture& a) {
                     absl::StrAppend(out, a.name);
                   })));
}

absl::Status CheckInputSize(int height, int width) {
  if (Fits(height) && Fits(width)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a DLA network cannot take an input of ", height, "x", width,
                   " pixels (height x width); each side must be 32*k or 32*k-1, for example 224"));
}

}  // namespace dla
