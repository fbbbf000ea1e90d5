#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/completion.h"

namespace dla::cli {
namespace {

// fish knows no other escapes between single quotes.
std::string FishQuoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

// The flags of fish's `complete` for a value.
std::string Value(const OptionDocs& docs) {
  std::string proposals = absl::StrJoin(docs.choices, " ");
  if (docs.paths == Paths::kFolders && docs.value == "DIR") {
    absl::StrAppend(&proposals, "(__fish_complete_directories)");
  }
  const std::string text = proposals.empty() ? "" : " -a " + FishQuoted(proposals);
  const bool files = docs.paths != Paths::kNone && docs.value != "DIR";
  return absl::StrCat(files ? " -r -F" : " -x", text);
}

void AppendOptions(const std::string& start, const std::vector<OptionDocs>& options,
                   std::string& script) {
  for (const OptionDocs& docs : options) {
    absl::StrAppend(&script, start);
    for (const std::string& name : docs.names) {
      const bool is_long = absl::StartsWith(name, "--");
      absl::StrAppend(&script, is_long ? " -l " : " -s ", name.substr(is_long ? 2 : 1));
    }
    if (!docs.value.empty()) absl::StrAppend(&script, Value(docs));
    absl::StrAppend(&script, " -d ", FishQuoted(FirstSentence(docs.help)), "\n");
  }
}

}  // namespace

std::string FishCompletion(const CommandDocs& program) {
  const std::string start = absl::StrCat("complete -c ", program.name);
  std::string script = absl::StrCat("# fish completion for ", program.name, "\n", start, " -f\n");
  const bool alone = program.commands.empty();
  const std::string first = absl::StrCat(start, alone ? "" : " -n __fish_use_subcommand");
  AppendOptions(first, program.options, script);
  for (const CommandDocs& command : program.commands) {
    absl::StrAppend(&script, first, " -a ", command.name, " -d ",
                    FishQuoted(FirstSentence(command.description)), "\n");
    const std::string inside =
        absl::StrCat(start, " -n '__fish_seen_subcommand_from ", command.name, "'");
    if (!command.arguments.empty() && command.arguments.front().paths != Paths::kNone) {
      absl::StrAppend(&script, inside, " -F\n");
    }
    AppendOptions(inside, command.options, script);
  }
  return script;
}

}  // namespace dla::cli
