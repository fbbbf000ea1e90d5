#include "model/model_config.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/json.h"
#include "model/labels.h"
#include "model/quoted.h"
#include "model/status_macros.h"

namespace dla {
namespace {

using nlohmann::json;

constexpr int kMaxClasses = 1'000'000;
constexpr int kDefaultClasses = 1000;  // timm's PretrainedCfg.num_classes
constexpr int kMaxSide = 4096;
constexpr double kMaxResizedSide = 16384;

// A value as an error shows it.
std::string Shown(const json& value) {
  constexpr size_t kMaxLength = 60;
  const std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  return text.size() <= kMaxLength ? text : absl::StrCat(text.substr(0, kMaxLength), "...");
}

absl::Status Wrong(absl::string_view field, const json& value, absl::string_view right) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", Shown(value), "; it must be ", right));
}

// nullptr where the field is absent or null, which timm treats alike.
const json* Find(const json& object, absl::string_view field) {
  const auto found = object.find(std::string(field));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<int> Integer(absl::string_view field, const json& value, uint64_t min,
                            uint64_t max) {
  if (value.is_number_unsigned()) {  // so the parser calls every whole number >= 0
    const auto number = value.get<uint64_t>();
    if (number >= min && number <= max) return static_cast<int>(number);
  }
  return Wrong(field, value, absl::StrCat("a whole number from ", min, " to ", max));
}

absl::StatusOr<std::string> String(absl::string_view field, const json& value) {
  if (value.is_string()) return value.get<std::string>();
  return Wrong(field, value, "a string");
}

// One of `choices`, each a name and what it stands for.
template <typename Choice, size_t n>
absl::Status ReadChoice(const json& object, absl::string_view field,
                        const std::pair<absl::string_view, Choice> (&choices)[n], Choice& result) {
  const json* value = Find(object, field);
  if (value == nullptr) return absl::OkStatus();
  for (const auto& [name, choice] : choices) {
    if (*value != std::string(name)) continue;
    result = choice;
    return absl::OkStatus();
  }
  return Wrong(field, *value,
               absl::StrCat("one of ", absl::StrJoin(choices, ", ", [](std::string* out, auto& c) {
                              absl::StrAppend(out, "\"", c.first, "\"");
                            })));
}

absl::Status ReadInputSize(const json& config, InputSpec& input) {
  constexpr absl::string_view kRight = "[3, height, width] with sides from 1 to 4096";
  const json* value = Find(config, "input_size");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_array() || value->size() != 3 || value->at(0) != 3) {
    return Wrong("input_size", *value, kRight);
  }
  const auto height = Integer("", value->at(1), 1, kMaxSide);
  const auto width = Integer("", value->at(2), 1, kMaxSide);
  if (!height.ok() || !width.ok()) return Wrong("input_size", *value, kRight);
  input.height = *height;
  input.width = *width;
  return absl::OkStatus();
}

absl::Status ReadCropPct(const json& config, InputSpec& input) {
  const json* value = Find(config, "crop_pct");
  if (value == nullptr) return absl::OkStatus();
  const double crop_pct = value->is_number() ? value->get<double>() : 0;
  // The photo is enlarged to side / crop_pct, so this bounds memory, too.
  const double side = std::max(input.height, input.width) / crop_pct;
  if (!(crop_pct > 0 && crop_pct <= 1 && side <= kMaxResizedSide)) {
    return Wrong(
        "crop_pct", *value,
        absl::StrCat("over 0 and at most 1, and input_size / crop_pct at most ", kMaxResizedSide));
  }
  input.crop_pct = crop_pct;
  return absl::OkStatus();
}

// mean or std: three numbers.
absl::Status ReadChannels(const json& config, absl::string_view field, float above,
                          std::array<float, 3>& result) {
  const json* value = Find(config, field);
  if (value == nullptr) return absl::OkStatus();
  const bool fits = value->is_array() && value->size() == result.size() &&
                    std::all_of(value->begin(), value->end(), [&](const json& channel) {
                      if (!channel.is_number()) return false;
                      const auto number = channel.get<float>();
                      return std::isfinite(number) && number > above;
                    });
  if (!fits) {
    return Wrong(
        field, *value,
        above == 0 ? "three numbers over 0, of R, G and B" : "three numbers, of R, G and B");
  }
  std::transform(value->begin(), value->end(), result.begin(),
                 [](const json& channel) { return channel.get<float>(); });
  return absl::OkStatus();
}

absl::StatusOr<InputSpec> ReadInput(const json& config) {
  static constexpr std::pair<absl::string_view, Interpolation> kInterpolations[] = {
      {"nearest", Interpolation::kNearest},
      {"bilinear", Interpolation::kBilinear},
      {"bicubic", Interpolation::kBicubic}};
  static constexpr std::pair<absl::string_view, CropMode> kCropModes[] = {
      {"center", CropMode::kCenter}, {"squash", CropMode::kSquash}, {"border", CropMode::kBorder}};

  InputSpec input;
  input.interpolation = Interpolation::kBicubic;  // timm's default for configs that name none
  DLA_RETURN_IF_ERROR(ReadInputSize(config, input));
  DLA_RETURN_IF_ERROR(ReadCropPct(config, input));
  DLA_RETURN_IF_ERROR(ReadChoice(config, "interpolation", kInterpolations, input.interpolation));
  DLA_RETURN_IF_ERROR(ReadChoice(config, "crop_mode", kCropModes, input.crop_mode));
  DLA_RETURN_IF_ERROR(ReadChannels(config, "mean", -HUGE_VALF, input.mean));
  DLA_RETURN_IF_ERROR(ReadChannels(config, "std", 0, input.std));
  return input;
}

// Arguments with which timm would build another network than the variant of that name, although the
// tensors may have the same names and shapes.
absl::Status CheckNetworkArguments(const json& config, int num_classes) {
  static const json kNoArguments = json::object();
  const json* pool = Find(config, "global_pool");
  if (pool != nullptr && *pool != "avg") return Wrong("global_pool", *pool, "\"avg\"");

  const json* arguments = Find(config, "model_args");
  if (arguments == nullptr) arguments = &kNoArguments;
  if (!arguments->is_object()) return Wrong("model_args", *arguments, "an object");
  const std::pair<absl::string_view, json> kOnly[] = {
      {"global_pool", "avg"}, {"in_chans", 3}, {"num_classes", num_classes}, {"output_stride", 32}};
  for (const auto& [field, only] : kOnly) {
    const json* value = Find(*arguments, field);
    if (value == nullptr || *value == only) continue;
    return Wrong(absl::StrCat("model_args.", field), *value, Shown(only));
  }
  for (absl::string_view field :
       {"levels", "channels", "block", "cardinality", "base_width", "shortcut_root"}) {
    const json* value = Find(*arguments, field);
    if (value == nullptr) continue;
    return Wrong(absl::StrCat("model_args.", field), *value,
                 "absent, since the architecture's name says it");
  }
  return absl::OkStatus();
}

// Label names by class: an array, or (timm allows gaps) an object from index to name.
absl::StatusOr<std::vector<std::string>> ReadLabelNames(absl::string_view field, const json& value,
                                                        int num_classes) {
  std::vector<std::string> names(num_classes);
  if (value.is_array()) {
    if (value.size() != names.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, " has ", value.size(), " entries, but num_classes is ", num_classes));
    }
    for (size_t i = 0; i < names.size(); ++i) {
      DLA_ASSIGN_OR_RETURN(names[i], String(absl::StrCat(field, "[", i, "]"), value[i]));
    }
    return names;
  }
  if (!value.is_object()) return Wrong(field, value, "an array of strings");
  for (const auto& [key, name] : value.items()) {
    int index;
    if (!absl::SimpleAtoi(key, &index) || index < 0 || index >= num_classes) {
      return absl::InvalidArgumentError(absl::StrCat(field, " has the key ", Quoted(key),
                                                     "; keys must be class indices from 0 to ",
                                                     num_classes - 1));
    }
    DLA_ASSIGN_OR_RETURN(names[index], String(absl::StrCat(field, "[", Quoted(key), "]"), name));
  }
  return names;
}

// The first of the fields that is there and not empty.
std::pair<absl::string_view, const json*> FindLabels(const json& config, const json& pretrained) {
  for (const json* object : {&config, &pretrained}) {
    for (absl::string_view field : {"label_names", "labels"}) {
      const json* value = Find(*object, field);
      const bool is_empty_list =
          value != nullptr && (value->is_array() || value->is_object()) && value->empty();
      if (value != nullptr && !is_empty_list) return {field, value};
    }
  }
  return {"", nullptr};
}

absl::StatusOr<std::vector<Label>> ReadLabels(const json& config, const json& pretrained,
                                              int num_classes) {
  const auto [field, value] = FindLabels(config, pretrained);
  if (value == nullptr) {
    const absl::Span<const Label> imagenet = ImageNet1kLabels();
    if (imagenet.size() != static_cast<size_t>(num_classes)) return std::vector<Label>();
    return std::vector<Label>(imagenet.begin(), imagenet.end());
  }
  DLA_ASSIGN_OR_RETURN(std::vector<std::string> names, ReadLabelNames(field, *value, num_classes));
  const json* descriptions = Find(config, "label_descriptions");
  if (descriptions == nullptr) descriptions = Find(pretrained, "label_descriptions");
  if (descriptions != nullptr && !descriptions->is_object()) {
    return Wrong("label_descriptions", *descriptions, "an object from label names to descriptions");
  }

  std::vector<Label> labels;
  labels.reserve(names.size());
  for (std::string& name : names) {
    const json* description = descriptions == nullptr ? nullptr : Find(*descriptions, name);
    if (description == nullptr) {
      labels.push_back({.name = std::move(name), .id = ""});
      continue;
    }
    DLA_ASSIGN_OR_RETURN(
        std::string text,
        String(absl::StrCat("label_descriptions[", Quoted(name), "]"), *description));
    labels.push_back({.name = std::move(text), .id = std::move(name)});
  }
  return labels;
}

absl::StatusOr<bool> ReadQuantization(const json& config) {
  constexpr int kFormat = 1;
  const json* quantization = Find(config, "quantization");
  if (quantization == nullptr) return false;
  const json* format = quantization->is_object() ? Find(*quantization, "format") : nullptr;
  if (format == nullptr) {
    return Wrong("quantization", *quantization,
                 "an object with a \"format\", as dla-quantize writes it");
  }
  if (*format == kFormat) return true;
  return Wrong("quantization.format", *format,
               absl::StrCat(kFormat, "; another needs another release of dla-serve"));
}

absl::StatusOr<ModelConfig> ReadConfig(const json& config) {
  if (!config.is_object()) return absl::InvalidArgumentError("must be a JSON object");
  // Older files hold the fields of pretrained_cfg themselves.
  const json* pretrained = Find(config, "pretrained_cfg");
  if (pretrained == nullptr) pretrained = &config;
  if (!pretrained->is_object()) return Wrong("pretrained_cfg", *pretrained, "an object");

  ModelConfig result;
  const json* architecture = Find(config, "architecture");
  if (architecture == nullptr) architecture = Find(*pretrained, "architecture");
  if (architecture == nullptr) {
    return absl::InvalidArgumentError(
        "architecture is missing; it must be a name such as \"dla34\"");
  }
  DLA_ASSIGN_OR_RETURN(result.architecture, String("architecture", *architecture));

  const json* classes = Find(config, "num_classes");
  if (classes == nullptr) classes = Find(*pretrained, "num_classes");
  result.num_classes = kDefaultClasses;
  if (classes != nullptr) {
    DLA_ASSIGN_OR_RETURN(result.num_classes, Integer("num_classes", *classes, 1, kMaxClasses));
  }

  DLA_RETURN_IF_ERROR(CheckNetworkArguments(config, result.num_classes));
  DLA_ASSIGN_OR_RETURN(result.input, ReadInput(*pretrained));
  DLA_ASSIGN_OR_RETURN(result.labels, ReadLabels(config, *pretrained, result.num_classes));
  DLA_ASSIGN_OR_RETURN(result.is_int8, ReadQuantization(config));
  return result;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view text, absl::string_view name) {
  DLA_ASSIGN_OR_RETURN(const json parsed, ParseJson(text, name));
  try {
    auto config = ReadConfig(parsed);
    if (config.ok()) return config;
    return absl::Status(config.status().code(),
                        absl::StrCat(name, ": ", config.status().message()));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", error.what()));
  }
}

}  // namespace dla
