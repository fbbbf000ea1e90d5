#include "model/labels.h"

#include <string>
#include <vector>

#include "absl/strings/str_split.h"

extern "C" const unsigned char dla_imagenet1k_tsv[];
extern "C" const unsigned char dla_imagenet1k_tsv_end[];

namespace dla {

absl::Span<const Label> ImageNet1kLabels() {
  static const auto& labels = *[] {
    const absl::string_view table(reinterpret_cast<const char*>(dla_imagenet1k_tsv),
                                  dla_imagenet1k_tsv_end - dla_imagenet1k_tsv);
    auto* parsed = new std::vector<Label>;
    for (absl::string_view line : absl::StrSplit(table, '\n', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> columns = absl::StrSplit(line, '\t');
      parsed->push_back({.name = columns.second, .id = columns.first});
    }
    return parsed;
  }();
  return labels;
}

}  // namespace dla
