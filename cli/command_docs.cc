#include "cli/command_docs.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace dla::cli {
namespace {

void AddChoice(absl::string_view word, OptionDocs& docs) {
  const auto& known = docs.choices;
  if (word.empty() || std::find(known.begin(), known.end(), word) != known.end()) return;
  docs.choices.emplace_back(word);
}

// "{a,b}" as CLI::IsMember describes itself, or "a|b|N", "cuda[:N]", "size=BYTES": what is in small
// letters is typed as it stands, what is in capitals stands for something.
void ReadChoices(absl::string_view text, OptionDocs& docs) {
  if (absl::ConsumePrefix(&text, "{")) {
    for (absl::string_view word : absl::StrSplit(text.substr(0, text.find('}')), ',')) {
      AddChoice(word, docs);
    }
    return;
  }
  for (absl::string_view part : absl::StrSplit(text, '|')) {
    const auto capital = std::find_if(part.begin(), part.end(), [](char c) {
      return absl::ascii_isupper(static_cast<unsigned char>(c)) || c == '[';
    });
    const absl::string_view symbol = part.substr(static_cast<size_t>(capital - part.begin()));
    if (symbol == "BOOL") {
      AddChoice("true", docs);
      AddChoice("false", docs);
    } else if (absl::EndsWith(symbol, "FILE") || absl::EndsWith(symbol, "PATH")) {
      docs.paths = Paths::kFiles;
    } else if (absl::EndsWith(symbol, "DIR")) {
      docs.paths = Paths::kFolders;
    } else {
      AddChoice(part.substr(0, part.size() - symbol.size()), docs);
    }
  }
}

// The value as --help shows it: an option_text such as "FILE" or "N=8 (or ...)" wins, else the
// type's name and the default.
void ReadValue(const CLI::Option& option, OptionDocs& docs) {
  const std::string type = option.get_type_name();  // "NAME:what the checks are called"
  const size_t colon = type.find(':');
  if (const std::string& text = option.get_option_text(); !text.empty()) {
    const size_t end = std::min(text.find_first_of("= "), text.size());
    docs.value = text.substr(0, end);
    docs.note = std::string(absl::StripTrailingAsciiWhitespace(text.substr(end)));
  } else {
    docs.value = type.substr(0, colon);
    if (!option.get_default_str().empty()) docs.note = "=" + option.get_default_str();
  }
  ReadChoices(docs.is_argument ? docs.names.front() : docs.value, docs);
  if (colon != std::string::npos) ReadChoices(type.substr(colon + 1), docs);
}

OptionDocs ReadOption(const CLI::Option& option) {
  OptionDocs docs;
  docs.is_argument = option.get_positional();
  if (docs.is_argument) {
    docs.names = {option.get_name(true)};
  } else {
    for (const std::string& name : option.get_snames()) docs.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) docs.names.push_back("--" + name);
  }
  docs.required = option.get_required();
  docs.repeatable = option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll ||
                    option.get_items_expected_max() > 1;
  docs.help = absl::StrReplaceAll(option.get_description(), {{"\n", " "}});
  docs.group = option.get_group();
  if (option.get_type_size() > 0) ReadValue(option, docs);
  return docs;
}

}  // namespace

CommandDocs ReadCommand(const CLI::App& app) {
  CommandDocs docs;
  docs.name = app.get_name();
  docs.description = app.get_description();
  docs.footer = app.get_footer();
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    (option->get_positional() ? docs.arguments : docs.options).push_back(ReadOption(*option));
  }
  // Given a filter, CLI11 returns all commands, not only those on the command line.
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_group().empty()) docs.commands.push_back(ReadCommand(*command));
  }
  return docs;
}

std::string FirstSentence(const std::string& text) {
  const std::string line = absl::StrReplaceAll(text, {{"\n", " "}});
  const size_t end = line.find(". ");
  return std::string(absl::StripSuffix(line.substr(0, end), "."));
}

std::string FunctionName(const std::string& program) {
  return "_" + absl::StrReplaceAll(program, {{"-", "_"}});
}

std::string ShellQuoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

}  // namespace dla::cli
