#include "server/help_formatter.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dla::server {
namespace {

constexpr size_t kScreen = 80;

std::string Wrap(absl::string_view text, size_t width) {
  std::string wrapped;
  size_t column = 0;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > 0 && column + 1 + word.size() > width) {
      wrapped += '\n';
      column = 0;
    }
    if (column > 0) wrapped += ' ';
    absl::StrAppend(&wrapped, word);
    column += word.size() + (column > 0 ? 1 : 0);
  }
  return wrapped;
}

}  // namespace

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_type_size() == 0) return "";
  const std::string type = option->get_type_name();  // "TYPE:name of the check"
  std::string opts = absl::StrCat(" ", type.substr(0, type.find(':')));
  if (!option->get_default_str().empty()) absl::StrAppend(&opts, "=", option->get_default_str());
  return opts;
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  return Wrap(option->get_description(), kScreen - kColumn);
}

}  // namespace dla::server
