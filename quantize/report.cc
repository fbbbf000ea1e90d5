#include "quantize/report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dla::quantize {
namespace {

// Six digits: config.json is read by people, too.
double Short(double value) { return std::round(value * 1e6) / 1e6; }

}  // namespace

std::string ScanText(const std::vector<LayerCost>& layers) {
  size_t width = 5;
  for (const LayerCost& layer : layers) width = std::max(width, layer.conv.size());
  std::string text = absl::StrFormat("%-*s  off by, mean  worst photo\n", width, "layer");
  int wide = 0;
  for (const LayerCost& layer : layers) {
    absl::StrAppendFormat(&text, "%-*s  %10.3f %%  %9.3f %%%s\n", width, layer.conv,
                          100 * layer.error, 100 * layer.worst,
                          layer.is_int8 ? "" : "  stays float");
    wide += layer.is_int8 ? 0 : 1;
  }
  absl::StrAppend(&text, layers.size() - wide, " of ", layers.size(), " convolutions are int8\n");
  return text;
}

std::string AgreementText(const Agreement& agreement) {
  std::string text = absl::StrFormat(
      "top-1 agreement         %.2f %% of %d photos\n"
      "probability off by      %.5f in the mean, %.3f at worst\n"
      "cosine of embeddings    %.5f in the mean, %.5f at worst\n",
      100 * agreement.top1, agreement.photos, agreement.mean_probability_off,
      agreement.worst_probability_off, agreement.mean_cosine, agreement.worst_cosine);
  if (agreement.labelled > 0) {
    absl::StrAppendFormat(
        &text, "accuracy                %.2f %% float, %.2f %% int8, of %d labelled\n",
        100 * agreement.exact_accuracy, 100 * agreement.other_accuracy, agreement.labelled);
  }
  return text;
}

nlohmann::ordered_json QuantizationJson(const QuantizedModel& model, int64_t calibration_photos,
                                        const Agreement& agreement) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerCost& layer : model.layers) {
    layers.push_back({{"conv", layer.conv},
                      {"error", Short(layer.error)},
                      {"worst_error", Short(layer.worst)},
                      {"int8", layer.is_int8}});
  }
  nlohmann::ordered_json report = {
      {"photos", agreement.photos},
      {"top1_agreement", Short(agreement.top1)},
      {"mean_probability_off", Short(agreement.mean_probability_off)},
      {"worst_probability_off", Short(agreement.worst_probability_off)},
      {"mean_cosine", Short(agreement.mean_cosine)},
      {"worst_cosine", Short(agreement.worst_cosine)}};
  if (agreement.labelled > 0) {
    report["labelled_photos"] = agreement.labelled;
    report["float_accuracy"] = Short(agreement.exact_accuracy);
    report["int8_accuracy"] = Short(agreement.other_accuracy);
  }
  return {{"format", 1},
          {"tool", "dla-quantize " DLA_VERSION},
          {"weights", "int8, symmetric, a scale for each output channel"},
          {"activations", "8 bit, a step for each value, least |error|^2.5"},
          {"calibration_photos", calibration_photos},
          {"layers", std::move(layers)},
          {"report", std::move(report)}};
}

}  // namespace dla::quantize
