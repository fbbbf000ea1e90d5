// What dla-quantize tells: the scan's table and how far int8 and float agree.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/photo_agreement.h"
#include "model/quantizer.h"

namespace dla::quantize {

// One line for each convolution: what it alone costs, and whether it is int8.
std::string ScanText(const std::vector<LayerCost>& layers);

// "top-1 agreement  99.75 % of 400 photos" and so on, one line each.
std::string AgreementText(const Agreement& agreement);

// The "quantization" object of config.json; docs/model-format.md describes it.
nlohmann::ordered_json QuantizationJson(const QuantizedModel& model, int64_t calibration_photos,
                                        const Agreement& agreement);

}  // namespace dla::quantize
