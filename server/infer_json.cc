#include "server/infer_json.h"

#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "server/json.h"

namespace dla::server {
namespace {

using inference::InferParameter;
using Input = inference::ModelInferRequest::InferInputTensor;
using Output = inference::ModelInferResponse::InferOutputTensor;
using Parameters = google::protobuf::Map<std::string, InferParameter>;

constexpr int kMaxNesting = 8;
constexpr size_t kMaxDimensions = 8;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::StatusOr<Json> Parse(absl::string_view text) {
  try {
    Json json = Json::parse(text.begin(), text.end(), [](int depth, Json::parse_event_t, Json&) {
      if (depth > kMaxNesting + 4) throw std::length_error("depth");
      return true;
    });
    if (json.is_object()) return json;
    return Invalid("the body is JSON, but no object");
  } catch (const Json::parse_error& error) {
    return Invalid("the body is no JSON: something is wrong at byte ", error.byte);
  } catch (const std::length_error&) {
    return Invalid("the body is nested too deeply");
  } catch (const Json::exception&) {  // a number that is too large
    return Invalid("the body has a number that is out of range");
  }
}

// Null if there is none.
const Json* Member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

absl::StatusOr<std::string> TextMember(const Json& object, const char* name,
                                       absl::string_view where) {
  const Json* member = Member(object, name);
  if (member == nullptr) return std::string();
  if (member->is_string()) return member->get<std::string>();
  return Invalid(where, name, " is no string");
}

absl::StatusOr<std::vector<const Json*>> ObjectsMember(const Json& object, const char* name) {
  std::vector<const Json*> objects;
  const Json* member = Member(object, name);
  if (member == nullptr) return objects;
  if (!member->is_array()) return Invalid(name, " is no array");
  for (const Json& each : *member) {
    if (!each.is_object()) return Invalid(name, " has an element that is no object");
    objects.push_back(&each);
  }
  return objects;
}

absl::Status ReadParameters(const Json& object, absl::string_view where, Parameters& parameters) {
  const Json* member = Member(object, "parameters");
  if (member == nullptr) return absl::OkStatus();
  if (!member->is_object()) return Invalid(where, "parameters is no object");
  for (const auto& [name, value] : member->items()) {
    InferParameter& parameter = parameters[name];
    if (value.is_boolean()) {
      parameter.set_bool_param(value.get<bool>());
    } else if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) {
      parameter.set_uint64_param(value.get<uint64_t>());
    } else if (value.is_number_integer()) {
      parameter.set_int64_param(value.get<int64_t>());
    } else if (value.is_number_float()) {
      parameter.set_double_param(value.get<double>());
    } else if (value.is_string()) {
      parameter.set_string_param(value.get<std::string>());
    } else {
      return Invalid(where, "parameter ", Quoted(name), " is no string, number or boolean");
    }
  }
  return absl::OkStatus();
}

// A parameter that is of JSON alone, which is taken out; null if it is not there.
absl::StatusOr<const Json*> TakeParameter(const Json& object, const char* name,
                                          Parameters& parameters) {
  const Json* all = Member(object, "parameters");
  parameters.erase(name);
  return all == nullptr ? nullptr : Member(*all, name);
}

absl::StatusOr<bool> BoolParameter(const Json& object, const char* name, bool otherwise,
                                   Parameters& parameters) {
  DLA_ASSIGN_OR_RETURN(const Json* const value, TakeParameter(object, name, parameters));
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  return Invalid("parameter ", name, " is no boolean");
}

absl::Status ReadShape(const Json& object, Input& input) {
  const Json* shape = Member(object, "shape");
  if (shape == nullptr || !shape->is_array() || shape->size() > kMaxDimensions) {
    return Invalid("input ", Quoted(input.name()), " has no shape, an array of whole numbers");
  }
  for (const Json& each : *shape) {
    if (!each.is_number_integer()) {
      return Invalid("input ", Quoted(input.name()), " has a shape of other than whole numbers");
    }
    input.add_shape(each.get<int64_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadElement(const Json& element, Input& input) {
  auto& contents = *input.mutable_contents();
  const std::string& datatype = input.datatype();
  if (datatype == "BYTES") {
    std::string bytes;
    if (!element.is_string() ||
        !absl::Base64Unescape(element.get_ref<const std::string&>(), &bytes)) {
      return Invalid("input ", Quoted(input.name()), " has an element that is no base64");
    }
    *contents.add_bytes_contents() = std::move(bytes);
  } else if (datatype == "UINT8" && element.is_number_unsigned() &&
             element.get<uint64_t>() <= 255) {
    contents.add_uint_contents(element.get<uint32_t>());
  } else if (datatype == "FP32" && element.is_number()) {
    contents.add_fp32_contents(element.get<float>());
  } else {
    return Invalid("input ", Quoted(input.name()), " has an element that is no ", Quoted(datatype));
  }
  return absl::OkStatus();
}

absl::Status ReadData(const Json& data, int nesting, Input& input) {
  if (!data.is_array()) return ReadElement(data, input);
  if (nesting == kMaxNesting) {
    return Invalid("input ", Quoted(input.name()), " has data of more than ", kMaxNesting,
                   " dimensions");
  }
  for (const Json& each : data) DLA_RETURN_IF_ERROR(ReadData(each, nesting + 1, input));
  return absl::OkStatus();
}

absl::Status ReadInput(const Json& object, absl::string_view& binary,
                       inference::ModelInferRequest& request) {
  Input& input = *request.add_inputs();
  DLA_ASSIGN_OR_RETURN(*input.mutable_name(), TextMember(object, "name", "an input's "));
  DLA_ASSIGN_OR_RETURN(*input.mutable_datatype(), TextMember(object, "datatype", "an input's "));
  DLA_RETURN_IF_ERROR(ReadShape(object, input));
  DLA_RETURN_IF_ERROR(ReadParameters(object, "an input's ", *input.mutable_parameters()));
  DLA_ASSIGN_OR_RETURN(const Json* const size,
                       TakeParameter(object, "binary_data_size", *input.mutable_parameters()));
  const Json* data = Member(object, "data");
  if (size == nullptr) {
    return data == nullptr ? absl::OkStatus() : ReadData(*data, 0, input);
  }
  if (data != nullptr) {
    return Invalid("input ", Quoted(input.name()), " has data and a binary_data_size, too");
  }
  if (!size->is_number_unsigned() || size->get<uint64_t>() > binary.size()) {
    return Invalid("input ", Quoted(input.name()), " has a binary_data_size of ", size->dump(),
                   ", but ", binary.size(), " bytes are left behind the JSON");
  }
  const size_t bytes = size->get<size_t>();
  request.add_raw_input_contents(binary.data(), bytes);
  binary.remove_prefix(bytes);
  return absl::OkStatus();
}

absl::Status ReadOutput(const Json& object, InferJsonFormat& format,
                        inference::ModelInferRequest& request) {
  auto& output = *request.add_outputs();
  DLA_ASSIGN_OR_RETURN(*output.mutable_name(), TextMember(object, "name", "an output's "));
  Parameters& parameters = *output.mutable_parameters();
  DLA_RETURN_IF_ERROR(ReadParameters(object, "an output's ", parameters));
  DLA_ASSIGN_OR_RETURN(format.outputs[output.name()],
                       BoolParameter(object, "binary_data", format.binary, parameters));
  return absl::OkStatus();
}

// Takes one value from the front of `bytes`.
template <typename T>
T Take(absl::string_view& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

Json Elements(const std::string& datatype, absl::string_view bytes) {
  Json elements = Json::array();
  while (!bytes.empty()) {
    if (datatype == "FP32") {
      elements.push_back(Take<float>(bytes));
    } else if (datatype == "INT32") {
      elements.push_back(Take<int32_t>(bytes));
    } else {  // BYTES
      const auto length = Take<uint32_t>(bytes);
      elements.push_back(std::string(bytes.substr(0, length)));
      bytes.remove_prefix(length);
    }
  }
  return elements;
}

}  // namespace

absl::StatusOr<InferJsonFormat> ParseInferJson(absl::string_view body, size_t json_bytes,
                                               inference::ModelInferRequest& request) {
  if (json_bytes > body.size()) {
    return Invalid("Inference-Header-Content-Length is ", json_bytes, ", but the body has ",
                   body.size(), " bytes");
  }
  DLA_ASSIGN_OR_RETURN(const Json json, Parse(body.substr(0, json_bytes)));
  absl::string_view binary = body.substr(json_bytes);
  for (const auto& [name, value] : json.items()) {
    if (name != "id" && name != "inputs" && name != "outputs" && name != "parameters") {
      return Invalid("the request has a member ", Quoted(name),
                     "; there are id, inputs, outputs and parameters");
    }
  }
  InferJsonFormat format;
  DLA_ASSIGN_OR_RETURN(*request.mutable_id(), TextMember(json, "id", ""));
  DLA_RETURN_IF_ERROR(ReadParameters(json, "", *request.mutable_parameters()));
  DLA_ASSIGN_OR_RETURN(format.binary, BoolParameter(json, "binary_data_output", false,
                                                    *request.mutable_parameters()));
  DLA_ASSIGN_OR_RETURN(const auto inputs, ObjectsMember(json, "inputs"));
  for (const Json* input : inputs) DLA_RETURN_IF_ERROR(ReadInput(*input, binary, request));
  DLA_ASSIGN_OR_RETURN(const auto outputs, ObjectsMember(json, "outputs"));
  for (const Json* output : outputs) DLA_RETURN_IF_ERROR(ReadOutput(*output, format, request));
  if (binary.empty()) return format;
  return Invalid("the body has ", binary.size(), " bytes that belong to no input");
}

InferJsonBody WriteInferJson(const inference::ModelInferResponse& response,
                             const InferJsonFormat& format) {
  Json json = {{"model_name", response.model_name()}, {"model_version", response.model_version()}};
  if (!response.id().empty()) json["id"] = response.id();
  Json& outputs = json["outputs"] = Json::array();
  std::string binary;
  for (int i = 0; i < response.outputs_size(); ++i) {
    const Output& output = response.outputs(i);
    Json each = {{"name", output.name()},
                 {"datatype", output.datatype()},
                 {"shape", std::vector<int64_t>(output.shape().begin(), output.shape().end())}};
    for (const auto& [name, value] : output.parameters()) {  // of shared memory
      each["parameters"][name] =
          value.has_string_param() ? Json(value.string_param()) : Json(value.int64_param());
    }
    const std::string& raw = response.raw_output_contents(i);
    if (each.contains("parameters")) {
      // The contents lie in shared memory.
    } else if (format.BinaryOf(output.name())) {
      each["parameters"]["binary_data_size"] = raw.size();
      binary += raw;
    } else {
      each["data"] = Elements(output.datatype(), raw);
    }
    outputs.push_back(std::move(each));
  }
  InferJsonBody body;
  body.bytes = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  body.json_bytes = body.bytes.size();
  body.bytes += binary;
  return body;
}

}  // namespace dla::server
