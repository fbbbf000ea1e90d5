#include "cli/terminal.h"

#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace dla::cli {

Terminal DescribeTerminal(int fd) {
  Terminal terminal;
  terminal.utf8 = absl::string_view(nl_langinfo(CODESET)) == "UTF-8";
  terminal.is_terminal = isatty(fd) == 1;
  if (!terminal.is_terminal) return terminal;
  const char* type = std::getenv("TERM");
  terminal.can_redraw = type != nullptr && *type != '\0' && absl::string_view(type) != "dumb";
  winsize size = {};
  const char* columns = std::getenv("COLUMNS");
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.columns = size.ws_col;
  } else if (columns == nullptr || !absl::SimpleAtoi(columns, &terminal.columns)) {
    terminal.columns = 80;
  }
  terminal.columns = std::clamp(terminal.columns, 20, 1000);
  return terminal;
}

absl::Status WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EINTR) {
      return absl::CancelledError("interrupted");
    } else if (errno == EPIPE) {
      return absl::AbortedError("nobody reads the output any more");
    } else {
      return absl::UnknownError(absl::StrCat("cannot write the output: ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

void WriteError(absl::string_view text) { WriteAll(STDERR_FILENO, text).IgnoreError(); }

}  // namespace dla::cli
