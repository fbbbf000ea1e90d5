// Text from outside (file names, labels, messages of a server) made fit for a terminal.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace dla::cli {

// `text` as one line that cannot steer a terminal: control characters (C0, DEL, C1), line and
// paragraph separators and those that turn the writing direction become "\n", "\t", "\x1b" or
// "\u202e"; bytes that are no UTF-8 become "\xff". Everything else stays as it is.
std::string Printable(absl::string_view text);

// `text` with every byte that is no part of valid UTF-8 replaced by U+FFFD.
std::string ValidUtf8(absl::string_view text);

// Columns that printable UTF-8 text takes on a terminal; 2 for wide East Asian characters and 0 for
// combining ones where the locale (LC_CTYPE) knows them.
int DisplayWidth(absl::string_view text);

// `text`, cut to at most `columns` >= 1 columns; `ellipsis` stands for what was cut off.
std::string FitColumns(absl::string_view text, int columns, absl::string_view ellipsis);

// `text` followed by as many spaces as it takes to fill `columns`.
std::string PadColumns(absl::string_view text, int columns);

}  // namespace dla::cli
