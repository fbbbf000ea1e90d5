#include "server/infer_request.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/quoted.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

using inference::InferParameter;
using inference::InferTensorContents;
using Input = inference::ModelInferRequest::InferInputTensor;
using Parameters = google::protobuf::Map<std::string, InferParameter>;

constexpr int kDefaultTopK = 5;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::StatusOr<int64_t> WholeNumber(absl::string_view name, const InferParameter& parameter,
                                    int64_t most) {
  int64_t value = -1;
  if (parameter.parameter_choice_case() == InferParameter::kInt64Param) {
    value = parameter.int64_param();
  } else if (parameter.parameter_choice_case() == InferParameter::kUint64Param) {
    const uint64_t wide = parameter.uint64_param();
    value = wide > static_cast<uint64_t>(most) ? -1 : static_cast<int64_t>(wide);
  } else {
    return Invalid("parameter ", Quoted(name), " is not a whole number");
  }
  if (value < 0 || value > most) {
    return Invalid("parameter ", Quoted(name), " is not from 0 to ", most);
  }
  return value;
}

std::string ShapeText(const google::protobuf::RepeatedField<int64_t>& shape) {
  const int shown = std::min(shape.size(), 8);
  return absl::StrCat("[", absl::StrJoin(shape.begin(), shape.begin() + shown, ", "),
                      shape.size() > shown ? ", ..." : "", "]");
}

// The contents of an input, in either representation.
struct Contents {
  const Input& input;
  const std::string* raw;  // null: typed
};

absl::Status CheckType(const Input& input, absl::string_view datatype) {
  if (input.datatype() == datatype) return absl::OkStatus();
  return Invalid("input ", Quoted(input.name()), " has datatype ", Quoted(input.datatype()),
                 "; it takes ", datatype);
}

absl::Status WrongShape(const Input& input, absl::string_view wanted) {
  return Invalid("input ", Quoted(input.name()), " has shape ", ShapeText(input.shape()),
                 "; it takes ", wanted);
}

// The first dimension, n.
absl::StatusOr<int> CountPhotos(const Input& input) {
  const int64_t count = input.shape_size() == 0 ? 0 : input.shape(0);
  if (count >= 1 && count <= kMaxInferPhotos) return static_cast<int>(count);
  return Invalid("input ", Quoted(input.name()), " has shape ", ShapeText(input.shape()),
                 "; send 1 to ", kMaxInferPhotos, " photos a request");
}

absl::Status WrongLength(const Input& input, int64_t actual, int64_t expected,
                         absl::string_view unit) {
  return Invalid("input ", Quoted(input.name()), " of shape ", ShapeText(input.shape()), " needs ",
                 expected, " ", unit, "; it came with ", actual);
}

absl::Status ParseImages(const Contents& contents, InferTask& task) {
  const Input& input = contents.input;
  DLA_RETURN_IF_ERROR(CheckType(input, "BYTES"));
  const bool column = input.shape_size() == 2 && input.shape(1) == 1;
  if (input.shape_size() != 1 && !column) return WrongShape(input, "[n]");
  DLA_ASSIGN_OR_RETURN(const int count, CountPhotos(input));
  if (contents.raw == nullptr) {
    const auto& images = input.contents().bytes_contents();
    if (images.size() != count) {
      return WrongLength(input, images.size(), count, "elements of bytes_contents");
    }
    for (const std::string& image : images) task.photos.push_back(EncodedPhoto{image});
    return absl::OkStatus();
  }
  absl::string_view left = *contents.raw;
  for (int i = 0; i < count; ++i) {
    uint32_t length = 0;
    if (left.size() < sizeof(length)) {
      return Invalid("raw_input_contents of input ", Quoted(input.name()), " ends before element ",
                     i, " of ", count);
    }
    std::memcpy(&length, left.data(), sizeof(length));
    left.remove_prefix(sizeof(length));
    if (length > left.size()) {
      return Invalid("raw_input_contents of input ", Quoted(input.name()), ": element ", i,
                     " says it has ", length, " bytes, but ", left.size(), " are left");
    }
    task.photos.push_back(EncodedPhoto{left.substr(0, length)});
    left.remove_prefix(length);
  }
  if (left.empty()) return absl::OkStatus();
  return Invalid("raw_input_contents of input ", Quoted(input.name()), " has ", left.size(),
                 " bytes beyond its ", count, " elements");
}

absl::Status ParsePixels(const Contents& contents, int64_t max_pixels, InferTask& task) {
  const Input& input = contents.input;
  DLA_RETURN_IF_ERROR(CheckType(input, "UINT8"));
  if (input.shape_size() != 4 || input.shape(3) != 3) return WrongShape(input, "[n, h, w, 3]");
  DLA_ASSIGN_OR_RETURN(const int count, CountPhotos(input));
  const int64_t height = input.shape(1);
  const int64_t width = input.shape(2);
  constexpr int64_t kMostSide = 1 << 20;
  if (height < 1 || width < 1 || height > kMostSide || width > kMostSide ||
      height * width > max_pixels) {
    return Invalid("input ", Quoted(input.name()), " has shape ", ShapeText(input.shape()),
                   "; photos of 1 to ", max_pixels, " pixels are taken");
  }
  const int64_t photo_bytes = height * width * 3;
  absl::string_view bytes;
  if (contents.raw == nullptr) {
    const auto& values = input.contents().uint_contents();
    if (values.size() != count * photo_bytes) {
      return WrongLength(input, values.size(), count * photo_bytes, "elements of uint_contents");
    }
    std::string narrow;
    narrow.reserve(values.size());
    for (const uint32_t value : values) {
      if (value > 255) {
        return Invalid("input ", Quoted(input.name()), ": uint_contents has ", value,
                       ", which is no UINT8");
      }
      narrow.push_back(static_cast<char>(value));
    }
    bytes = task.converted.emplace_back(std::move(narrow));
  } else {
    bytes = *contents.raw;
  }
  if (static_cast<int64_t>(bytes.size()) != count * photo_bytes) {
    return WrongLength(input, bytes.size(), count * photo_bytes, "bytes of raw_input_contents");
  }
  for (int i = 0; i < count; ++i) {
    task.photos.push_back(RawPhoto{bytes.substr(i * photo_bytes, photo_bytes),
                                   static_cast<int>(height), static_cast<int>(width)});
  }
  return absl::OkStatus();
}

absl::Status ParseNormalized(const Contents& contents, const InputSpec& spec, InferTask& task) {
  const Input& input = contents.input;
  DLA_RETURN_IF_ERROR(CheckType(input, "FP32"));
  if (input.shape_size() != 4 || input.shape(1) != 3 || input.shape(2) != spec.height ||
      input.shape(3) != spec.width) {
    return WrongShape(input, absl::StrCat("[n, 3, ", spec.height, ", ", spec.width, "]"));
  }
  DLA_ASSIGN_OR_RETURN(const int count, CountPhotos(input));
  const int64_t photo_values = int64_t{3} * spec.height * spec.width;
  const int64_t photo_bytes = photo_values * static_cast<int64_t>(sizeof(float));
  absl::string_view bytes;
  if (contents.raw == nullptr) {
    const auto& values = input.contents().fp32_contents();
    if (values.size() != count * photo_values) {
      return WrongLength(input, values.size(), count * photo_values, "elements of fp32_contents");
    }
    bytes = {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  } else {
    bytes = *contents.raw;
  }
  if (static_cast<int64_t>(bytes.size()) != count * photo_bytes) {
    return WrongLength(input, bytes.size(), count * photo_bytes, "bytes of raw_input_contents");
  }
  for (int i = 0; i < count; ++i) {
    task.photos.push_back(NormalizedPhoto{bytes.substr(i * photo_bytes, photo_bytes)});
  }
  return absl::OkStatus();
}

// The three parameters by which Triton's clients point to shared memory, which are taken out.
absl::StatusOr<SharedTensor> ParseShared(const std::string& tensor, Parameters& parameters,
                                         const SharedMemoryRegions* regions) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  SharedTensor shared;
  const auto region = parameters.find("shared_memory_region");
  if (region == parameters.end()) return shared;
  if (regions == nullptr) {
    return Invalid(tensor,
                   " lies in shared memory, which is off; the server was started without "
                   "--allow-shared-memory true");
  }
  DLA_ASSIGN_OR_RETURN(shared.region, regions->Find(region->second.string_param()));
  parameters.erase(region);
  for (auto [name, value] : {std::pair{"shared_memory_byte_size", &shared.byte_size},
                             std::pair{"shared_memory_offset", &shared.offset}}) {
    const auto found = parameters.find(name);
    if (found == parameters.end()) continue;
    DLA_ASSIGN_OR_RETURN(const int64_t number, WholeNumber(name, found->second, kMost));
    *value = static_cast<uint64_t>(number);
    parameters.erase(found);
  }
  return shared;
}

bool HasTypedContents(const InferTensorContents& contents) {
  return contents.bool_contents_size() > 0 || contents.int_contents_size() > 0 ||
         contents.int64_contents_size() > 0 || contents.uint_contents_size() > 0 ||
         contents.uint64_contents_size() > 0 || contents.fp32_contents_size() > 0 ||
         contents.fp64_contents_size() > 0 || contents.bytes_contents_size() > 0;
}

absl::Status ParseInput(const inference::ModelInferRequest& request, const InputSpec& spec,
                        int64_t max_pixels, const SharedMemoryRegions* regions, InferTask& task) {
  if (request.inputs_size() != 1) {
    return Invalid("inputs has ", request.inputs_size(), " entries; give exactly one of ",
                   kImageInput, ", ", kPixelsInput, " and ", kNormalizedInput);
  }
  const Input& input = request.inputs(0);
  Parameters parameters = input.parameters();
  DLA_ASSIGN_OR_RETURN(
      const SharedTensor shared,
      ParseShared(absl::StrCat("input ", Quoted(input.name())), parameters, regions));
  if (!parameters.empty()) {
    return Invalid("input ", Quoted(input.name()), " has a parameter ",
                   Quoted(parameters.begin()->first), ", which is not supported");
  }
  const int raw = request.raw_input_contents_size();
  if (raw > 0 && HasTypedContents(input.contents())) {
    return Invalid("input ", Quoted(input.name()),
                   " has contents while there are raw_input_contents, too; send one of them");
  }
  if (raw > 1) return Invalid("raw_input_contents has ", raw, " entries for 1 input");
  task.input = input.name();
  task.typed = raw == 0 && shared.region == nullptr;
  Contents contents{input, raw == 0 ? nullptr : &request.raw_input_contents(0)};
  if (shared.region != nullptr) {
    if (raw > 0 || HasTypedContents(input.contents())) {
      return Invalid("input ", Quoted(input.name()),
                     " lies in shared memory and has contents, too");
    }
    DLA_ASSIGN_OR_RETURN(std::string bytes, shared.region->Read(shared.offset, shared.byte_size));
    contents.raw = &task.converted.emplace_back(std::move(bytes));
  }
  if (input.name() == kImageInput) return ParseImages(contents, task);
  if (input.name() == kPixelsInput) return ParsePixels(contents, max_pixels, task);
  if (input.name() == kNormalizedInput) return ParseNormalized(contents, spec, task);
  return Invalid("there is no input ", Quoted(input.name()), "; give one of ", kImageInput, ", ",
                 kPixelsInput, " and ", kNormalizedInput);
}

absl::Status ParseParameters(const Parameters& parameters, int classes, InferTask& task) {
  task.top_k = std::min(kDefaultTopK, classes);
  for (const auto& [name, value] : parameters) {
    if (name == "top_k") {
      DLA_ASSIGN_OR_RETURN(const int64_t top_k, WholeNumber(name, value, classes));
      if (top_k > 0) task.top_k = static_cast<int>(top_k);
    } else if (name == "timeout") {
      constexpr int64_t kMostMicroseconds = int64_t{365} * 86'400 * 1'000'000;
      DLA_ASSIGN_OR_RETURN(const int64_t micros, WholeNumber(name, value, kMostMicroseconds));
      if (micros > 0) task.timeout = std::chrono::microseconds(micros);
    } else if (name == "priority") {
      // As Triton counts: 1 comes before 2, 0 is the default.
      DLA_ASSIGN_OR_RETURN(const int64_t priority, WholeNumber(name, value, 2));
      if (priority == 2) task.priority = Priority::kBulk;
    } else if (name == "triton_enable_empty_final_response") {
      // Of models that answer many times; here the one answer is the final one.
    } else {
      return Invalid("parameter ", Quoted(name),
                     " of the request is not supported; there are top_k, timeout and priority");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<WantedOutput> ParseOutput(
    const inference::ModelInferRequest::InferRequestedOutputTensor& wanted, int classes,
    const SharedMemoryRegions* regions) {
  for (size_t i = 0; i < std::size(kOutputs); ++i) {
    if (wanted.name() != kOutputs[i].name) continue;
    WantedOutput output{static_cast<InferOutput>(i)};
    Parameters parameters = wanted.parameters();
    DLA_ASSIGN_OR_RETURN(output.shared, ParseShared(absl::StrCat("output ", Quoted(wanted.name())),
                                                    parameters, regions));
    for (const auto& [name, value] : parameters) {
      if (name != "classification") {
        return Invalid("output ", Quoted(wanted.name()), " has a parameter ", Quoted(name),
                       ", which is not supported; there is classification");
      }
      if (output.output != InferOutput::kProbabilities && output.output != InferOutput::kLogits) {
        return Invalid("output ", Quoted(wanted.name()),
                       " has no classification; ask for that of probabilities or logits");
      }
      DLA_ASSIGN_OR_RETURN(const int64_t count,
                           WholeNumber(name, value, std::numeric_limits<int32_t>::max()));
      output.classification = static_cast<int>(std::min<int64_t>(count, classes));
    }
    return output;
  }
  return Invalid(
      "there is no output ", Quoted(wanted.name()), "; ask for ",
      absl::StrJoin(kOutputs, ", ", [](std::string* out, const OutputDescription& output) {
        absl::StrAppend(out, output.name);
      }));
}

absl::Status ParseOutputs(const inference::ModelInferRequest& request, int classes,
                          const SharedMemoryRegions* regions, InferTask& task) {
  constexpr int kMost = std::size(kOutputs);
  if (request.outputs_size() > kMost) {
    return Invalid("outputs has ", request.outputs_size(), " entries; there are ", kMost,
                   " outputs");
  }
  for (const auto& wanted : request.outputs()) {
    DLA_ASSIGN_OR_RETURN(const WantedOutput output, ParseOutput(wanted, classes, regions));
    for (const WantedOutput& other : task.outputs) {
      if (other.output == output.output) {
        return Invalid("output ", Quoted(wanted.name()), " is asked for twice");
      }
    }
    task.outputs.push_back(output);
  }
  if (task.outputs.empty()) {
    for (int i = 0; i < kMost; ++i) task.outputs.push_back({static_cast<InferOutput>(i)});
  }
  ClassifyOptions& options = task.options;
  options.top_k = 0;
  for (const WantedOutput& output : task.outputs) {
    const bool has_classes =
        output.output == InferOutput::kLabels || output.output == InferOutput::kIndices;
    options.top_k = std::max({options.top_k, output.classification, has_classes ? task.top_k : 0});
    options.include_logits |= output.output == InferOutput::kLogits;
    options.include_embedding |= output.output == InferOutput::kEmbedding;
    options.include_probabilities |=
        output.output == InferOutput::kProbabilities && output.classification == 0;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<InferTask> ParseInferRequest(const inference::ModelInferRequest& request,
                                            const ModelInfo& model, int64_t max_pixels,
                                            const SharedMemoryRegions* regions) {
  InferTask task;
  DLA_RETURN_IF_ERROR(ParseParameters(request.parameters(), model.num_classes, task));
  DLA_RETURN_IF_ERROR(ParseOutputs(request, model.num_classes, regions, task));
  DLA_RETURN_IF_ERROR(ParseInput(request, model.input, max_pixels, regions, task));
  return task;
}

}  // namespace dla::server
