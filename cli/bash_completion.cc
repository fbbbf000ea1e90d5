#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/completion.h"

namespace dla::cli {
namespace {

constexpr char kScript[] =
    R"(# bash completion for @program                         -*- shell-script -*-
@function() {
  local cur=${COMP_WORDS[COMP_CWORD]} command='' words='' paths='' word prev at
  local -a before=("${COMP_WORDS[@]:0:COMP_CWORD}")
  COMPREPLY=()
  # bash makes "=" a word of its own in --option=VALUE and --option NAME=VALUE.
  if [[ $cur == = ]]; then
    before+=(=)
    cur=''
  fi
  at=$((${#before[@]} - 1))
  [[ ${before[at]} != = || ${before[at - 1]} == -* ]] || at=$((at - 2))
  [[ ${before[at]} != = ]] || at=$((at - 1))
  prev=${before[at]}
  for word in "${before[@]:1}"; do
    case $word in
      @commands) command=$word && break ;;
    esac
  done
  case "$command $prev" in
@values    *)
      case "$command $cur" in
@words      esac
      ;;
  esac
  [[ -z $words ]] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  if [[ -n $paths ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$paths" -- "$cur")
  fi
  [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
}
complete -F @function @program
)";

// What completes a value, as assignments.
std::string Assignments(const OptionDocs& docs) {
  std::string text;
  if (!docs.choices.empty()) {
    absl::StrAppend(&text, " words=", ShellQuoted(absl::StrJoin(docs.choices, " ")));
  }
  if (docs.paths != Paths::kNone) {
    absl::StrAppend(&text, docs.paths == Paths::kFiles ? " paths=-f" : " paths=-d");
  }
  return text.empty() ? " :" : text;  // nothing to propose, and no option either
}

std::string Case(const std::string& patterns, const std::string& action) {
  return absl::StrCat(patterns, ")", action, " ;;\n");
}

void AppendValues(const std::string& command, const std::vector<OptionDocs>& options,
                  std::string& cases) {
  for (const OptionDocs& docs : options) {
    if (docs.value.empty()) continue;
    const std::string patterns =
        absl::StrJoin(docs.names, " | ", [&](std::string* out, const std::string& name) {
          out->append(ShellQuoted(absl::StrCat(command, " ", name)));
        });
    absl::StrAppend(&cases, "    ", Case(patterns, Assignments(docs)));
  }
}

// What stands where no value is due: options, and commands or arguments.
void AppendWords(const std::string& name, const CommandDocs& command, std::string& cases) {
  std::vector<std::string> options;
  for (const OptionDocs& docs : command.options) options.push_back(docs.names.back());
  std::vector<std::string> commands;
  for (const CommandDocs& inner : command.commands) commands.push_back(inner.name);
  const std::string all = absl::StrCat(" words=", ShellQuoted(absl::StrJoin(options, " ")));
  std::string other = all;
  if (!commands.empty()) {
    other = absl::StrCat(" words=", ShellQuoted(absl::StrJoin(commands, " ")));
  } else if (!command.arguments.empty()) {
    other = Assignments(command.arguments.front());
  }
  absl::StrAppend(&cases, "        ", Case(absl::StrCat("\"", name, " -\"*"), all));
  absl::StrAppend(&cases, "        ", Case(absl::StrCat("\"", name, " \"*"), other));
}

}  // namespace

std::string BashCompletion(const CommandDocs& program) {
  std::string values;
  std::string words;
  std::vector<std::string> names;
  AppendValues("", program.options, values);
  for (const CommandDocs& command : program.commands) {
    AppendValues(command.name, command.options, values);
    AppendWords(command.name, command, words);
    names.push_back(command.name);
  }
  AppendWords("", program, words);
  return absl::StrReplaceAll(kScript,
                             {{"@program", program.name},
                              {"@function", FunctionName(program.name)},
                              {"@commands", names.empty() ? "''" : absl::StrJoin(names, " | ")},
                              {"@values", values},
                              {"@words", words}});
}

}  // namespace dla::cli
