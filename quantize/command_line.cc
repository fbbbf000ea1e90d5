#include "quantize/command_line.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/generate.h"
#include "cli/terminal.h"

namespace dla::quantize {
namespace {

constexpr char kFooter[] = R"(Examples:
  dla-quantize models/dla34 --images photos/ --out models/dla34-int8
  dla-quantize --embedded --images flowers/ --out flowers5-int8
  dla-server --model dla34=models/dla34-int8

Photos are as the model will see them; a few hundred, of all kinds and classes, are
enough. Half of them (at most --calibrate) show how large values become, the others
are held out: on those the int8 model is compared with the float one. Where it does
not agree (--min-agreement, --min-cosine) nothing is written. Photos that lie in
folders named as the model's classes also tell the accuracy of both.

The classifier stays float, and so does each layer that alone, in int8, does harm;
the table tells which. The folder that is written serves
as it is, with eight of the held-out photos as its self-test, which the server runs
when it loads the model.

Exit codes: 0 written; 1 not written, for the reason told; 2 wrong usage;
130 interrupted.)";

// CLI::Range would let NaN pass.
std::string CheckShare(const std::string& text) {
  double share = 0;
  if (absl::SimpleAtod(text, &share) && share >= -1 && share <= 1) return "";
  return "\"" + text + "\" is no number from -1 to 1";
}

std::string CheckError(const std::string& text) {
  double error = 0;
  if (absl::SimpleAtod(text, &error) && error >= 0 && error <= 1e6) return "";
  return "\"" + text + "\" is no number from 0 to 1000000";
}

void AddOptions(CLI::App& app, QuantizeOptions& options) {
  app.add_option("MODEL_DIR", options.model,
                 "The float model: config.json and model.safetensors as timm\n"
                 "saves them for the hub")
      ->option_text(" ");
  app.add_flag("--embedded", options.embedded,
               "Instead: the model that dla-server serves if none is given");
  app.add_option("-i,--images", options.images,
                 "Photos, or folders that are searched, with all folders below,\n"
                 "for .jpg, .jpeg, .png and .webp")
      ->option_text("PATH ...");
  app.add_option("--held-out", options.held_out,
                 "Judge on these photos; left out, on a share of --images")
      ->option_text("PATH ...");
  app.add_option("-o,--out", options.out,
                 "The folder to write. There must be none yet; it appears only\n"
                 "once it is complete")
      ->option_text("DIR");
  app.add_option("--min-agreement", options.min_agreement,
                 "Least share of held-out photos with the same most probable\n"
                 "class as the float model")
      ->check(CheckShare)
      ->option_text("SHARE=0.99");
  app.add_option("--min-cosine", options.min_cosine,
                 "Least cosine between the embeddings of both, in the mean of\n"
                 "the held-out photos")
      ->check(CheckShare)
      ->option_text("COSINE=0.995");
  app.add_flag("--force", options.force, "Write also below these, and with fewer than 32 photos");
  app.add_option("--most-error", options.most_error,
                 "A layer stays float if it alone moves the embedding by more\n"
                 "than this, as a share of its length; and so many of the worst\n"
                 "that the others together stay within three times this")
      ->check(CheckError)
      ->option_text("SHARE=0.02");
  app.add_option("--calibrate", options.calibrate, "Photos to calibrate on, at most")
      ->check(CLI::Range(1, 10'000))
      ->option_text("N=200");
  app.add_option("--photos", options.photos,
                 "Photos to take of all that are found, at even distances")
      ->check(CLI::Range(2, 100'000))
      ->option_text("N=600");
  app.add_option("--threads", options.threads, "Cores to use")
      ->check(CLI::Range(1, 1024))
      ->option_text("N=all");
  app.set_version_flag("--version", "dla-quantize " DLA_VERSION);
  app.footer(kFooter);
}

void Check(const QuantizeOptions& options) {
  if (options.embedded == !options.model.empty()) {
    throw CLI::ValidationError("MODEL_DIR", "give either a model's folder or --embedded");
  }
  if (options.images.empty()) throw CLI::RequiredError("--images");
  if (options.out.empty()) throw CLI::RequiredError("--out");
}

}  // namespace

ExitCode RunCommandLine(int argc, const char* const* argv) {
  CLI::App app("Turns a model folder into one that dla-server computes in int8.", "dla-quantize");
  app.get_formatter()->column_width(32);
  QuantizeOptions options;
  options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::string generate;
  try {
    AddOptions(app, options);
    cli::AddGenerateOption(app, generate);
    app.parse(argc, argv);
    if (!generate.empty()) {
      const std::string page = cli::Generate(app, generate, DLA_VERSION);
      return cli::WriteAll(STDOUT_FILENO, page).ok() ? kWritten : kFailed;
    }
    Check(options);
  } catch (const CLI::Success& wish) {  // --help, --version
    app.exit(wish);
    return kWritten;
  } catch (const CLI::Error& error) {
    cli::WriteError(absl::StrCat("dla-quantize: ", error.what(), " (see dla-quantize --help)\n"));
    return kUsageError;
  }
  return RunQuantize(options);
}

}  // namespace dla::quantize
