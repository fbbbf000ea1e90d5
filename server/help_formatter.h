// How --help looks.
#pragma once

#include <string>

#include "CLI/CLI.hpp"

namespace dla::server {

// "--flag TYPE=DEFAULT" and beside it the description, wrapped to 80 columns. CLI11's own formatter
// shows the names of all checks and never wraps.
class HelpFormatter final : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kColumn); }

  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;

 private:
  static constexpr int kColumn = 34;
};

}  // namespace dla::server
