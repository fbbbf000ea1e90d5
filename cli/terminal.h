// What is known about the terminal, or the file or pipe, behind a descriptor.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dla::cli {

struct Terminal {
  bool is_terminal = false;
  bool can_redraw = false;  // a terminal that understands cursor movements (TERM is not "dumb")
  bool utf8 = false;        // the locale's encoding is UTF-8
  int columns = 80;         // 20 .. 1000
};

// Needs setlocale(LC_CTYPE, "") to have been called.
Terminal DescribeTerminal(int fd);

// Writes all of `text`. CANCELLED if it blocks and a signal is handled meanwhile (see Interrupt),
// ABORTED if nobody reads any more (EPIPE), else UNKNOWN naming the cause.
absl::Status WriteAll(int fd, absl::string_view text);

// Writes to standard error; what cannot be written is lost.
void WriteError(absl::string_view text);

}  // namespace dla::cli
