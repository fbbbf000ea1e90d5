// What a command line offers, read from the CLI11 table that parses it. Manual pages and shell
// completion are written from this, so that no option is described twice.
#pragma once

#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace dla::cli {

enum class Paths { kNone, kFiles, kFolders };

struct OptionDocs {
  std::vector<std::string> names;  // as typed: "-s", "--server"; of an argument: "PATH"
  bool is_argument = false;        // known by its place, not by its name
  bool required = false;
  bool repeatable = false;
  std::string value;  // what stands for its value, such as FILE or a|b; empty: takes none
  std::string note;   // what --help says after the value: "=8", " (or $DLA_SERVER)"
  std::string help;   // as one line
  std::string group;

  // What a shell can propose as value.
  std::vector<std::string> choices;
  Paths paths = Paths::kNone;
};

struct CommandDocs {
  std::string name;
  std::string description;  // may have lines
  std::string footer;       // laid out for 80 columns
  std::vector<OptionDocs> options;
  std::vector<OptionDocs> arguments;
  std::vector<CommandDocs> commands;
};

// Hidden options (without a group) are left out. Choices come from CLI::IsMember and from values
// that spell them: "auto|N", "FILE|off", BOOL.
CommandDocs ReadCommand(const CLI::App& app);

// `text` up to the end of its first sentence, without the full stop.
std::string FirstSentence(const std::string& text);

// "dla-client" -> "_dla_client", a name for a function of a shell.
std::string FunctionName(const std::string& program);

// `text` as one word of a POSIX shell or zsh.
std::string ShellQuoted(const std::string& text);

}  // namespace dla::cli
