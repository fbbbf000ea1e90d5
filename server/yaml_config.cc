#include "server/yaml_config.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/status_macros.h"
#include "yaml-cpp/yaml.h"

namespace dla::server {
namespace {

absl::Status ErrorAt(const std::string& file, const YAML::Mark& mark, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ":", mark.line + 1, ": ", what));
}

// Sets the option that `key` names from `value`, unless the command line has set it already.
absl::Status SetOption(const std::string& file, const YAML::Node& key, const YAML::Node& value,
                       CLI::App& app) {
  const std::string& name = key.Scalar();
  CLI::Option* option = name == "config" || name == "generate" || name == "help"
                            ? nullptr
                            : app.get_option_no_throw("--" + name);
  if (option == nullptr) {
    return ErrorAt(file, key.Mark(),
                   absl::StrCat("unknown key \"", name,
                                "\"; keys are the flags' names without "
                                "dashes in front, see dla-server --help"));
  }
  const bool several = option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
  std::vector<std::string> texts;
  if (value.IsScalar()) {
    texts.push_back(value.Scalar());
  } else if (several && value.IsSequence()) {
    for (const YAML::Node& item : value) {
      if (!item.IsScalar()) return ErrorAt(file, item.Mark(), "an item of a list is not a value");
      texts.push_back(item.Scalar());
    }
  } else {
    return ErrorAt(
        file, value.Mark(),
        absl::StrCat("\"", name, "\" takes a single value", several ? " or a list" : ""));
  }
  if (option->count() > 0 || texts.empty()) return absl::OkStatus();
  try {
    for (const std::string& text : texts) option->add_result(text);
    option->run_callback();
  } catch (const CLI::ParseError& e) {
    return ErrorAt(file, value.Mark(), e.what());
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const std::string& file, const YAML::Node& key, const YAML::Node& value,
                       ServerConfig& config) {
  ModelSource source{.name = key.Scalar(), .folder = "", .settings = config.defaults};
  if (value.IsScalar()) {
    source.folder = value.Scalar();
  } else if (value.IsMap()) {
    CLI::App app;
    AddModelOptions(app, source.settings);
    app.add_option("--path", source.folder);
    for (const auto& entry : value) {
      DLA_RETURN_IF_ERROR(SetOption(file, entry.first, entry.second, app));
    }
  }
  if (source.folder.empty()) {
    return ErrorAt(file, key.Mark(),
                   absl::StrCat("model \"", source.name, "\" has no folder; write ", source.name,
                                ": DIR, or ", source.name, ": {path: DIR}"));
  }
  config.models.push_back(std::move(source));
  return absl::OkStatus();
}

absl::Status Apply(const std::string& file, const YAML::Node& root, CLI::App& app,
                   ServerConfig& config) {
  if (root.IsNull()) return absl::OkStatus();
  if (!root.IsMap()) return ErrorAt(file, root.Mark(), "the file is not a map of settings");
  YAML::Node models;
  for (const auto& entry : root) {
    if (!entry.first.IsScalar()) return ErrorAt(file, entry.first.Mark(), "a key is not a name");
    if (entry.first.Scalar() == "models") {
      models = entry.second;
    } else if (entry.first.Scalar() == "model") {
      return ErrorAt(file, entry.first.Mark(),
                     "unknown key \"model\"; list models as models: {NAME: DIR}");
    } else {
      DLA_RETURN_IF_ERROR(SetOption(file, entry.first, entry.second, app));
    }
  }
  if (models.IsNull()) return absl::OkStatus();
  if (!models.IsMap()) return ErrorAt(file, models.Mark(), "\"models\" is not a map of NAME: DIR");
  for (const auto& entry : models) {
    DLA_RETURN_IF_ERROR(ReadModel(file, entry.first, entry.second, config));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyYamlFile(const std::string& file, CLI::App& app, ServerConfig& config) {
  try {
    return Apply(file, YAML::LoadFile(file), app, config);
  } catch (const YAML::BadFile&) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read --config file \"", file, "\""));
  } catch (const YAML::Exception& e) {
    return ErrorAt(file, e.mark, e.msg);
  }
}

}  // namespace dla::server
