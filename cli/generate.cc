#include "cli/generate.h"

#include "cli/command_docs.h"
#include "cli/completion.h"
#include "cli/man_page.h"

namespace dla::cli {

void AddGenerateOption(CLI::App& app, std::string& wanted) {
  app.add_option("--generate", wanted, "Print the manual page or a shell's completion, and exit")
      ->check(CLI::IsMember({"man", "bash", "zsh", "fish"}))
      ->type_name("man|bash|zsh|fish");
}

std::string Generate(const CLI::App& app, const std::string& wanted, const std::string& version) {
  const CommandDocs docs = ReadCommand(app);
  if (wanted == "bash") return BashCompletion(docs);
  if (wanted == "zsh") return ZshCompletion(docs);
  if (wanted == "fish") return FishCompletion(docs);
  return ManPage(docs, version);
}

}  // namespace dla::cli
