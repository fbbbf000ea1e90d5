#include "cli/man_page.h"

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace dla::cli {
namespace {

// `text` with what roff would take as its own made harmless.
std::string Escaped(absl::string_view text) {
  std::string escaped = absl::StrReplaceAll(text, {{"\\", "\\e"},
                                                   {"-", "\\-"},
                                                   {"'", "\\(aq"},
                                                   {"`", "\\(ga"},
                                                   {"^", "\\(ha"},
                                                   {"~", "\\(ti"},
                                                   {"\n.", "\n\\&."}});
  return absl::StartsWith(escaped, ".") ? "\\&" + escaped : escaped;
}

std::string Bold(absl::string_view text) { return absl::StrCat("\\fB", Escaped(text), "\\fR"); }
std::string Italic(absl::string_view text) { return absl::StrCat("\\fI", Escaped(text), "\\fR"); }

// "PATH...", "[NAME]"
std::string Argument(const OptionDocs& docs) {
  const std::string name = absl::StrCat(Italic(docs.names.front()), docs.repeatable ? "..." : "");
  return docs.required ? name : absl::StrCat("[", name, "]");
}

void AppendOption(const OptionDocs& docs, std::string& page) {
  absl::StrAppend(&page, ".TP\n");
  if (docs.is_argument) {
    absl::StrAppend(&page, Argument(docs));
  } else {
    absl::StrAppend(&page,
                    absl::StrJoin(docs.names, ", ", [](std::string* out, const std::string& name) {
                      out->append(Bold(name));
                    }));
    if (!docs.value.empty()) absl::StrAppend(&page, " ", Italic(docs.value), Escaped(docs.note));
  }
  absl::StrAppend(&page, "\n", Escaped(docs.help), ".\n");
}

void AppendOptions(const CommandDocs& command, std::string& page) {
  for (const OptionDocs& argument : command.arguments) AppendOption(argument, page);
  for (const OptionDocs& option : command.options) AppendOption(option, page);
}

// Arguments, then options in the order of their groups' first appearance, each group under its
// heading.
void AppendGroups(const CommandDocs& program, std::string& page) {
  for (const OptionDocs& argument : program.arguments) AppendOption(argument, page);
  std::vector<std::string> groups;
  for (const OptionDocs& option : program.options) {
    if (!absl::c_linear_search(groups, option.group)) groups.push_back(option.group);
  }
  for (const std::string& group : groups) {
    if (groups.size() > 1 && group != "Options") {
      absl::StrAppend(&page, ".SS ", Escaped(group), "\n");
    }
    for (const OptionDocs& option : program.options) {
      if (option.group == group) AppendOption(option, page);
    }
  }
}

void AppendFooter(const std::string& footer, std::string& page) {
  if (!footer.empty()) absl::StrAppend(&page, ".PP\n.EX\n", Escaped(footer), "\n.EE\n");
}

void AppendSynopsis(const CommandDocs& program, std::string& page) {
  absl::StrAppend(&page, ".SH SYNOPSIS\n");
  if (program.commands.empty()) {
    absl::StrAppend(&page, Bold(program.name), " [", Italic("OPTION"), "]...");
    for (const OptionDocs& argument : program.arguments) {
      absl::StrAppend(&page, " ", Argument(argument));
    }
    absl::StrAppend(&page, "\n");
  }
  for (const CommandDocs& command : program.commands) {
    absl::StrAppend(&page, Bold(absl::StrCat(program.name, " ", command.name)), " [",
                    Italic("OPTION"), "]...");
    for (const OptionDocs& argument : command.arguments) {
      absl::StrAppend(&page, " ", Argument(argument));
    }
    absl::StrAppend(&page, "\n.br\n");
  }
}

}  // namespace

std::string ManPage(const CommandDocs& program, const std::string& version) {
  std::string summary = FirstSentence(program.description);
  summary[0] = absl::ascii_tolower(static_cast<unsigned char>(summary[0]));
  std::string page = absl::StrCat(".TH \"", Escaped(absl::AsciiStrToUpper(program.name)),
                                  "\" 1 \"\" \"dla\\-serve ", version, "\" \"User Commands\"\n");
  absl::StrAppend(&page, ".SH NAME\n", Escaped(program.name), " \\- ", Escaped(summary), "\n");
  AppendSynopsis(program, page);
  absl::StrAppend(&page, ".SH DESCRIPTION\n", Escaped(program.description), "\n");
  if (!program.commands.empty()) absl::StrAppend(&page, ".SH COMMANDS\n");
  for (const CommandDocs& command : program.commands) {
    absl::StrAppend(&page, ".SS ", Escaped(command.name), "\n", Escaped(command.description),
                    ".\n");
    AppendOptions(command, page);
    AppendFooter(command.footer, page);
  }
  absl::StrAppend(&page, ".SH OPTIONS\n");
  AppendGroups(program, page);
  if (!program.footer.empty()) absl::StrAppend(&page, ".SH NOTES\n");
  AppendFooter(program.footer, page);
  return page;
}

}  // namespace dla::cli
