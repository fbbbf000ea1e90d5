#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/completion.h"

namespace dla::cli {
namespace {

// Of _arguments, where brackets and colons have a meaning.
std::string Plain(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}});
}

// ":message:action" for a value.
std::string Value(const OptionDocs& docs) {
  std::string action;
  if (docs.paths != Paths::kNone) {
    action = absl::StrCat(" @function_path ", docs.paths == Paths::kFolders ? "folders" : "files");
    for (const std::string& choice : docs.choices) absl::StrAppend(&action, " ", choice);
  } else if (!docs.choices.empty()) {
    action = absl::StrCat("(", absl::StrJoin(docs.choices, " "), ")");
  }
  return absl::StrCat(":", Plain(docs.is_argument ? docs.names.front() : docs.value), ":", action);
}

std::string Specs(const CommandDocs& command) {
  std::string specs;
  for (const OptionDocs& docs : command.options) {
    for (const std::string& name : docs.names) {
      const std::string exclusive =
          docs.repeatable ? "*" : absl::StrCat("(", absl::StrJoin(docs.names, " "), ")");
      const std::string takes = name.size() == 2 ? "+" : "=";
      absl::StrAppend(&specs, " \\\n        ",
                      ShellQuoted(absl::StrCat(exclusive, name, docs.value.empty() ? "" : takes,
                                               "[", Plain(FirstSentence(docs.help)), "]",
                                               docs.value.empty() ? "" : Value(docs))));
    }
  }
  for (const OptionDocs& docs : command.arguments) {
    absl::StrAppend(&specs, " \\\n        ",
                    ShellQuoted(absl::StrCat(docs.repeatable ? "*" : "1", Value(docs))));
  }
  return specs;
}

constexpr char kScript[] = R"(#compdef @program

# "files" or "folders", after NAME= if there is one; then the words that may stand there, too.
@function_path() {
  compset -P '*='
  if [[ $1 == folders ]]; then _files -/; else _files; fi
  (( $# < 2 )) || compadd -- "${@:2}"
}

@function() {
  local context state state_descr line
  typeset -A opt_args
@body}

if [[ ${funcstack[1]} == @function ]]; then @function "$@"; else compdef @function @program; fi
)";

}  // namespace

std::string ZshCompletion(const CommandDocs& program) {
  std::string body = absl::StrCat("  _arguments -C -S", Specs(program));
  if (!program.commands.empty()) {
    std::string names;
    std::string cases;
    for (const CommandDocs& command : program.commands) {
      const std::string summary = FirstSentence(command.description);
      absl::StrAppend(&names, " ", ShellQuoted(absl::StrCat(command.name, ":", summary)));
      absl::StrAppend(&cases, "        ", command.name, ")\n      _arguments -S", Specs(command),
                      "\n        ;;\n");
    }
    absl::StrAppend(&body, " \\\n        '1:command:->command' '*::argument:->argument'\n",
                    "  case $state in\n    command)\n      local -a commands=(", names,
                    ")\n      _describe command commands\n      ;;\n",
                    "    argument)\n      case $line[1] in\n", cases,
                    "      esac\n      ;;\n  esac");
  }
  absl::StrAppend(&body, "\n");
  // The body first: it names the function, too.
  const std::string script = absl::StrReplaceAll(kScript, {{"@body", body}});
  return absl::StrReplaceAll(
      script, {{"@program", program.name}, {"@function", FunctionName(program.name)}});
}

}  // namespace dla::cli
