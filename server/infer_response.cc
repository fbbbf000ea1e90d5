#include "server/infer_response.h"

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "model/status_macros.h"

namespace dla::server {
namespace {

using Output = inference::ModelInferResponse::InferOutputTensor;

// Writes one output, in the representation that the caller chose.
class OutputWriter {
 public:
  OutputWriter(Output& output, std::string* raw) : output_(output), raw_(raw) {}

  void Floats(absl::Span<const float> values) {
    if (raw_ != nullptr) {
      raw_->append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    } else {
      output_.mutable_contents()->mutable_fp32_contents()->Add(values.begin(), values.end());
    }
  }
  void Int(int32_t value) {
    if (raw_ != nullptr) {
      Append(value);
    } else {
      output_.mutable_contents()->add_int_contents(value);
    }
  }
  void Bytes(absl::string_view value) {
    if (raw_ != nullptr) {
      Append(static_cast<uint32_t>(value.size()));
      raw_->append(value.data(), value.size());
    } else {
      output_.mutable_contents()->add_bytes_contents(std::string(value));
    }
  }

 private:
  template <typename T>
  void Append(T value) {
    char bytes[sizeof(value)];
    std::memcpy(bytes, &value, sizeof(value));
    raw_->append(bytes, sizeof(bytes));
  }

  Output& output_;
  std::string* const raw_;
};

// Triton's classification extension: "value:index", and ":label" where the model has labels.
std::string ClassText(const ClassProbability& each, float value, const std::vector<Label>& labels) {
  std::string text = absl::StrFormat("%f:%d", value, each.index);
  if (!labels.empty()) absl::StrAppend(&text, ":", labels[each.index].name);
  return text;
}

// Values of a photo in the output's second dimension.
int Width(const WantedOutput& wanted, const InferTask& task, const ModelInfo& info) {
  if (wanted.classification > 0) return wanted.classification;
  switch (wanted.output) {
    case InferOutput::kProbabilities:
    case InferOutput::kLogits:
      return info.num_classes;
    case InferOutput::kEmbedding:
      return info.embedding_size;
    case InferOutput::kLabels:
    case InferOutput::kIndices:
      return task.top_k;
  }
  return 0;
}

void Write(const WantedOutput& wanted, int width, const Answer& answer,
           const std::vector<Label>& labels, OutputWriter& writer) {
  for (int i = 0; i < wanted.classification; ++i) {
    const ClassProbability& each = answer.classes[i];
    const bool logits = wanted.output == InferOutput::kLogits;
    writer.Bytes(ClassText(each, logits ? answer.logits[each.index] : each.probability, labels));
  }
  if (wanted.classification > 0) return;
  switch (wanted.output) {
    case InferOutput::kProbabilities:
      writer.Floats(answer.probabilities);
      break;
    case InferOutput::kLogits:
      writer.Floats(answer.logits);
      break;
    case InferOutput::kEmbedding:
      writer.Floats(answer.embedding);
      break;
    case InferOutput::kLabels:
      for (int i = 0; i < width; ++i) {
        writer.Bytes(labels.empty() ? "" : labels[answer.classes[i].index].name);
      }
      break;
    case InferOutput::kIndices:
      for (int i = 0; i < width; ++i) writer.Int(answer.classes[i].index);
      break;
  }
}

// An empty element of raw_output_contents stays, for elements belong to outputs by their place.
absl::Status MoveToShared(const SharedTensor& shared, std::string& bytes, Output& output) {
  if (bytes.size() > shared.byte_size) {
    return absl::InvalidArgumentError(absl::StrCat("output \"", output.name(), "\" takes ",
                                                   bytes.size(), " bytes of shared memory; ",
                                                   shared.byte_size, " were given"));
  }
  DLA_RETURN_IF_ERROR(shared.region->Write(shared.offset, bytes));
  auto& parameters = *output.mutable_parameters();
  parameters["shared_memory_region"].set_string_param(shared.region->info().name);
  parameters["shared_memory_byte_size"].set_int64_param(static_cast<int64_t>(bytes.size()));
  parameters["shared_memory_offset"].set_int64_param(static_cast<int64_t>(shared.offset));
  bytes.clear();
  return absl::OkStatus();
}

}  // namespace

absl::Status FillInferResponse(const ServedModel& model, const InferTask& task,
                               const std::vector<Answer>& answers,
                               inference::ModelInferResponse& response) {
  response.set_model_name(model.name());
  response.set_model_version(model.version());
  const ModelInfo& info = model.info();
  for (const WantedOutput& wanted : task.outputs) {
    const OutputDescription& description = kOutputs[static_cast<int>(wanted.output)];
    Output& output = *response.add_outputs();
    output.set_name(description.name);
    output.set_datatype(wanted.classification > 0 ? "BYTES" : description.datatype);
    const int width = Width(wanted, task, info);
    output.add_shape(static_cast<int64_t>(answers.size()));
    output.add_shape(width);
    const bool typed = task.typed && wanted.shared.region == nullptr;
    std::string* const raw = typed ? nullptr : response.add_raw_output_contents();
    OutputWriter writer(output, raw);
    for (const Answer& answer : answers) Write(wanted, width, answer, info.labels, writer);
    if (wanted.shared.region != nullptr) {
      DLA_RETURN_IF_ERROR(MoveToShared(wanted.shared, *raw, output));
    }
  }
  return absl::OkStatus();
}

}  // namespace dla::server
